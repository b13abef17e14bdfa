"""Containers that are made ready before a request needs them.

``demand`` computes how many each template should have, ``pool`` holds those of one version, and ``keeper`` makes, hands
out and discards them. A container becomes a sandbox of an owner (row, environment, token) elsewhere: in ``creation``.
"""
