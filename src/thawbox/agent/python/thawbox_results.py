"""Sends rich results as lines of JSON on their descriptor (see ``run``). For the template's own Python."""

import os

import thawbox_run

LINE_MAX = 8 << 20
"""Bytes of one line of results; what is larger is left out."""


def send(kind, data):
    """Send ``data``, a table from MIME type to content. Left out if it cannot be JSON, or is too large.

    Only the process that was started sends results, not its forks.
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
        thawbox_run.Results.fd = None  # the reader has closed it
