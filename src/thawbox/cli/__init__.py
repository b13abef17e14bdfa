"""The ``thaw`` command: one file per verb.

``main`` collects the verbs; ``client`` sends requests to the server; ``terminal`` formats the output. Programs depend
on exit statuses and on ``--json``, so these change as little as the HTTP interface.
"""
