"""What answers at a sandbox's public address: a file per group of the sandbox API."""
