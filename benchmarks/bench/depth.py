"""What waits in the server's pools, asked at its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from thawbox.control.client import send_request

from .figures import Table, gather
from .server import Server

_WAIT_S = 120
_POLL_S = 0.005
_RECORD_S = 0.2
_EMPTY = {"ready": 0, "shells": 0, "ready_target": 0, "shells_target": 0}


class NeverThere(Exception):
    """The pool was not what it should be in time."""


@dataclass(slots=True)
class Depths:
    """What a watch saw, a value of each list per look."""

    seconds: list[float] = field(default_factory=list)
    """since the watch began"""
    ready: list[float] = field(default_factory=list)
    shells: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    """of those that are ready"""

    def table(self, title: str) -> Table:
        """All of it, one series per list."""
        return Table(
            title=f"depth of the pool, {title}",
            printed=False,
            series=(
                gather("seconds", "s", self.seconds),
                gather("ready", "sandboxes", self.ready),
                gather("shells", "sandboxes", self.shells),
                gather("wanted ready", "sandboxes", self.target),
            ),
        )


async def of(server: Server, template: str) -> dict[str, Any]:
    """The pool of the template's newest version; an empty one if it has none."""
    (answer,) = await asyncio.to_thread(lambda: list(send_request(server.settings, {"op": "pools"})))
    mine: list[dict[str, Any]] = [one for one in answer["pools"] if one["template"] == template]
    return mine[-1] if mine else dict(_EMPTY)


async def reached(server: Server, template: str, *, ready: int, shells: int) -> float:
    """Wait until exactly that much waits (looked at every 5 ms); returns the seconds that it took.

    Raises:
        NeverThere: not within two minutes.
    """
    return await _until(server, template, {"ready": ready, "shells": shells})


async def forgotten(server: Server, template: str) -> float:
    """Wait until nothing waits and nothing should, as long after the last request; returns the seconds.

    Raises:
        NeverThere: not within two minutes.
    """
    return await _until(server, template, _EMPTY)


async def _until(server: Server, template: str, wanted: Mapping[str, int]) -> float:
    began = time.monotonic()
    while True:
        pool = await of(server, template)
        if wanted.items() <= pool.items():
            return time.monotonic() - began
        if time.monotonic() - began > _WAIT_S:
            raise NeverThere(f"{dict(wanted)} of {template!r} expected; after {_WAIT_S} s there is {pool}")
        await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def watched(server: Server, template: str) -> AsyncIterator[Depths]:
    """Looks five times a second for as long as the block."""
    depths = Depths()
    began = time.monotonic()

    async def look() -> None:
        while True:
            pool = await of(server, template)
            depths.seconds.append(round(time.monotonic() - began, 3))
            depths.ready.append(pool["ready"])
            depths.shells.append(pool["shells"])
            depths.target.append(pool["ready_target"])
            await asyncio.sleep(_RECORD_S)

    task = asyncio.create_task(look())
    try:
        yield depths
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
