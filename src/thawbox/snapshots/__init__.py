"""Versions of templates on disk: manifest, image, snapshot and layers; what makes, keeps and removes them."""
