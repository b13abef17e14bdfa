"""Signals of programs that tests start."""

from __future__ import annotations

import signal


def heard() -> None:
    """Let the calling process be ended by SIGHUP, SIGINT and SIGQUIT.

    Whatever started the tests may have them ignored, and a child inherits that: nohup does, and a shell's "&".
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
