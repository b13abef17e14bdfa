"""Rich results, as lines of JSON on the descriptor for them (see ``run``). For the template's own Python."""

import os

import thawbox_run

LINE_MAX = 8 << 20
"""Bytes of one line of results; what is larger is left out."""


def send(kind, data):
    """Tell ``data``, a table of MIME types; what is no JSON, or too large, is left out.

    Only the process that was started has results, not what it forks.
    """
    if thawbox_run.Results.fd is None or os.getpid() != thawbox_run.Results.pid or not data:
        return
    try:
        import json
    except ImportError:  # Debian's python3-minimal has none
        return
    try:
        line = json.dumps({"kind": kind, "data": data}).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        return
    rest = memoryview(line if len(line) <= LINE_MAX else b"")
    try:
        while rest:
            rest = rest[os.write(thawbox_run.Results.fd, rest) :]
    except OSError:
        thawbox_run.Results.fd = None  # nobody listens
