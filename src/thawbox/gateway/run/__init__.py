"""Running something inside a sandbox over HTTP: commands, code, cells, background runs and their callbacks."""
