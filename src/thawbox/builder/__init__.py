"""Builds templates: queue, plan, steps in sandboxes, image, snapshot. A file per phase; ``pipeline`` calls them."""
