"""The control socket, server and client: operations of the running server that only root on its machine may use."""
