"""Terminals inside a sandbox."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from thawbox.agent import protocol

from .channel import QUICK_S, Endpoint, connect, deadline
from .commands import Process
from .fields import field


class Terminal(Process):
    """A program on a terminal. Its output comes as ``Stdout``; ``send_stdin`` types."""

    async def resize(self, rows: int, cols: int) -> None:
        """Set the size and notify the programs; a size that is not possible is ignored."""
        if 0 < rows < 65536 and 0 < cols < 65536:
            await self._channel.send(protocol.RESIZE, rows.to_bytes(2, "big") + cols.to_bytes(2, "big"))


@asynccontextmanager
async def open_terminal(
    endpoint: Endpoint,
    *,
    rows: int,
    cols: int,
    argv: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
) -> AsyncIterator[Terminal]:
    """A program on a terminal of its own, ``argv`` None: a login shell; leaving the block ends its session.

    Raises:
        GuestError: NO_CWD, UNKNOWN_USER, INVALID.
        GuestFault: the agent does not answer, or its answer is not valid.
    """
    fields = {
        "rows": rows,
        "cols": cols,
        "argv": None if argv is None else list(argv),
        "env": dict(env or {}),
        "cwd": cwd,
        "user": user,
    }
    async with connect(endpoint, "terminal", fields) as channel:
        async with deadline(QUICK_S):
            started = await channel.expect_object(protocol.STARTED)
        yield Terminal(channel, field(started, "pid", int))
