"""Connections to the programs that listen inside a sandbox: HTTP, WebSocket, TCP."""
