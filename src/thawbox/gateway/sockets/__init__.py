"""WebSockets of a sandbox: streamed runs and terminals."""
