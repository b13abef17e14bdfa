"""Sandboxes that are ready before anybody asks for them.

``demand`` says how many each template should have, ``pool`` holds those of one version, ``keeper`` makes, hands out
and discards them. What makes a sandbox its owner's (row, environment, token) is not known here.
"""
