"""What the control plane and the gateway share: request ids, errors, limits, bodies, addresses.

Nothing here uses templates or sandboxes.
"""
