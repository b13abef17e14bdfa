"""Thawbox: build sandbox templates, freeze them, thaw sandboxes from them."""

__version__ = "0.1.0"
