"""Changes of files inside a sandbox."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from thawbox.agent import protocol
from thawbox.errors import GuestFault

from .channel import QUICK_S, Endpoint, GuestError, connect, deadline
from .commands import Exit, Process
from .fields import field

LINE_MAX = 64 * 1024
_EVENTS = frozenset(("created", "modified", "deleted", "renamed"))


@dataclass(frozen=True)
class Change:
    """``event``: created, modified, deleted or renamed; ``time`` in seconds since 1970, by the guest's clock.

    ``old_path`` only of what was renamed. ``overflow``: some changes were lost.
    """

    event: str
    path: str
    time: float
    old_path: str | None
    overflow: bool


class Watch:
    """Changes below a path. Iterate; it ends when the path itself has been removed."""

    def __init__(self, process: Process) -> None:
        self._lines = _lines(process)
        self.method = ""
        """``inotify``, or polling with the reason."""

    async def begin(self) -> None:
        """Wait until every change is seen.

        Raises:
            GuestError: NOT_WATCHED.
        """
        async with deadline(QUICK_S):
            first = await anext(self._lines, None)
        if first is None:
            raise GuestError("NOT_WATCHED", "the path cannot be watched")
        self.method = field(first, "method", str)[:100]

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        line = await anext(self._lines)
        old = line.get("old_path")
        event = field(line, "event", str)
        if event not in _EVENTS:
            raise GuestFault("the watcher sent an unknown event")
        return Change(
            event=event,
            path=field(line, "path", str),
            time=field(line, "time", float),
            old_path=old if isinstance(old, str) else None,
            overflow=line.get("overflow") is True,
        )


async def _lines(process: Process) -> AsyncIterator[dict[str, object]]:
    rest = b""
    async for event in process:
        if isinstance(event, Exit):
            return
        *whole, rest = (rest + event.data).split(b"\n")
        if len(rest) > LINE_MAX:
            raise GuestFault(f"the watcher sent a line longer than {LINE_MAX} bytes")
        for line in whole:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise GuestFault(f"the watcher sent an invalid line: {error}") from error
            if not isinstance(value, dict):
                raise GuestFault("the watcher sent a line that is not a JSON object")
            yield value


@asynccontextmanager
async def watch_folder(endpoint: Endpoint, path: str) -> AsyncIterator[Watch]:
    """Changes at and below ``path``; within the block none is missed that the kernel reports.

    Raises:
        GuestError: NOT_FOUND or another errno's name.
        GuestFault: the agent does not answer, or its answer is not valid.
    """
    async with connect(endpoint, "watch", {"path": path}) as channel:
        async with deadline(QUICK_S):
            started = await channel.expect_object(protocol.STARTED)
        watching = Watch(Process(channel, field(started, "pid", int)))
        await watching.begin()
        yield watching
