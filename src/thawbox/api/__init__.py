"""The control plane over HTTP: a file per resource; request id, auth, errors and limits as middleware."""
