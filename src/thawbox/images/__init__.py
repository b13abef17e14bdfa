"""Where base images come from: a registry, or a bootstrap from the distribution's own packages.

``source`` is the way in. Behind it each source is a module with the same two functions, ``resolve`` and ``fetch``;
the contract is in ``source``'s docstring. What to do with the finished root tree is not known here.
"""
