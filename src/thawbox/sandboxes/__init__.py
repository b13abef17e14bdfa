"""Sandboxes' life: thaw, expiry, reconciliation after a restart, deletion."""
