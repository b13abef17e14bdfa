"""What a sandbox says of itself over HTTP: facts, health, environment, metrics."""
