"""Follows a build to its end: its log, its current step, its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from thawbox.store.enums import TemplateStatus

from .client import Server, Unreachable

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_PATIENCE_S = 60.0
"""How long the server may be unreachable. Builds survive its restart."""


def follow(
    server: Server,
    build: str,
    *,
    on_lines: Callable[[list[str]], None],
    on_status: Callable[[dict[str, Any]], None],
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Poll the build ``build`` (its id) until it is active or failed; returns its last status.

    ``on_lines`` gets every line of the log once, in order. ``on_status`` gets every status that was read. ``pause``
    gets the seconds to wait before the next poll.

    Raises:
        Unreachable: the server was unreachable for longer than 60 s.
    """
    offset = 0
    wait = _FIRST_PAUSE_S
    last_answer = time.monotonic()
    while True:
        try:
            # The status is read before the log: a log that is read after a final status is complete.
            status = server.call("GET", f"/v1/templates/build/{build}/status")
            on_status(status)
            while True:
                page = server.call("GET", f"/v1/templates/build/{build}/logs", params={"offset": offset})
                if not page["logs"]:
                    break
                offset = int(page["offset"])
                on_lines(str(page["logs"]).rstrip("\n").split("\n"))
                wait = _FIRST_PAUSE_S
            if status["status"] in (
                TemplateStatus.ACTIVE,
                "success",
                "completed",
                TemplateStatus.FAILED,
                "error",
            ):
                return status
            last_answer = time.monotonic()
        except Unreachable:
            if time.monotonic() - last_answer > _PATIENCE_S:
                raise
        pause(wait)
        wait = min(wait * 1.5, _LONGEST_PAUSE_S)
