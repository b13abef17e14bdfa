"""The control socket: what only root on the server's machine may ask of the running server. Both its ends."""
