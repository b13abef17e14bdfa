"""What the control plane and the gateway have in common: request ids, errors, limits, bodies.

Nothing here knows of templates or sandboxes.
"""
