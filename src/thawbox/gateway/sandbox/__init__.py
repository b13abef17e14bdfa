"""A sandbox's facts, health, environment and metrics over HTTP."""
