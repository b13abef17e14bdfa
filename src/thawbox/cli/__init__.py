"""The ``thaw`` command: a file per verb.

``main`` gathers them; ``client`` speaks to the server; ``terminal`` is everything about how things look.
What a command does for a program (exit status, ``--json``) is as fixed as the HTTP interface.
"""
