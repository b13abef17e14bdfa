"""The life of sandboxes: creation, pause, stop, fork, save, expiry, recovery after a restart, deletion."""
