"""The control plane over HTTP: one file per resource. Middleware adds request ids, log-in, errors and rate limits."""
