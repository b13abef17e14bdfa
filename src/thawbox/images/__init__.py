"""Fetches base images: from a registry, or made from Debian's packages (a bootstrap).

``source`` is the entry. Each source behind it is a module with the functions ``resolve`` and ``fetch``; their contract
is in ``source``'s docstring. What becomes of the root tree is the caller's business.
"""
