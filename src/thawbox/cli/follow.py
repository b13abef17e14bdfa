"""Following a build to its end: the log as it grows, the step, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from thawbox.store.enums import TemplateStatus

from .client import Server, Unreachable

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_PATIENCE_S = 60.0
"""How long a server may be away; builds survive its restart."""


def follow(
    server: Server,
    build: str,
    *,
    on_lines: Callable[[list[str]], None],
    on_status: Callable[[dict[str, Any]], None],
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Poll build ``build`` until it is active or failed; returns its last status.

    ``on_lines`` gets every line of the log once, in order; ``on_status`` every status that was seen.

    Raises:
        Unreachable: the server was away for too long.
    """
    offset = 0
    wait = _FIRST_PAUSE_S
    last_answer = time.monotonic()
    while True:
        try:
            # Status before log: the log that is read after a final status is complete.
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
