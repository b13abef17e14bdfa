"""Thawbox: build sandbox templates, freeze them, thaw sandboxes from them."""

__version__ = "0.1.0"
"""The only place that says it: the package metadata and both HTTP planes take it from here."""
