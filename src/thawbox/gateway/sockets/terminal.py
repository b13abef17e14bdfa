"""``/terminal``: a shell on a real terminal over a WebSocket.

What clients rely on: docs/reference/compatibility/websockets.md#terminal.

Client to server: ``input`` with ``data``, ``resize`` with ``cols`` and ``rows``. Server to client: ``output``
with ``data``; at the end ``exit`` with ``code`` and, the same, ``exitCode``.

Our own addition: ``/terminal?start=1`` waits for a first frame ``{"type": "start"}`` with any of ``cols``,
``rows``, ``command``, ``args``, ``env`` and ``workdir``. ``command`` without ``args`` is a line for /bin/sh.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.websockets import WebSocket

from thawbox import guest
from thawbox.errors import UserError
from thawbox.gateway.run.execution import in_folder
from thawbox.guest import Exit, Terminal
from thawbox.web.bodies import Body, parse

from .frames import Frame
from .session import FrameSocket, serve

router = APIRouter(tags=["terminal"])

SIDE_MAX = 1000
"""Most rows or columns of a terminal."""
START_S = 10.0
"""Longest wait for the first frame that a client announced."""
ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}

Side = Annotated[int, Field(ge=1, le=SIDE_MAX)]


class Start(Body):
    """What runs, and the size of the terminal. By default a login shell in 80 columns and 24 rows."""

    rows: Side = 24
    cols: Side = 80
    command: str | None = Field(default=None, min_length=1)
    args: list[str] | None = None
    env: dict[str, str] | None = None
    workdir: str | None = Field(default=None, min_length=1)


@router.websocket("/terminal")
async def terminal(websocket: WebSocket) -> None:
    """A login shell, from the sandbox's first prompt to its exit."""
    waits = websocket.query_params.get("start", "") not in ("", "0", "false")

    async def session(socket: FrameSocket) -> Frame:
        return await _run(socket, await _first_frame(socket) if waits else Start())

    await serve(websocket, session, failed=_exit_frame(-1))


async def _first_frame(socket: FrameSocket) -> Start:
    try:
        async with asyncio.timeout(START_S):
            frame = await socket.receive()
    except TimeoutError:
        raise UserError(f"No frame of type start came within {START_S:g} s.") from None
    if frame.get("type") != "start":
        raise UserError("The first frame must be of type start, because the address says start=1.")
    return parse(Start, frame)


async def _run(socket: FrameSocket, start: Start) -> Frame:
    async with _opened(socket, start) as terminal:
        typing = asyncio.create_task(_type(socket, terminal))
        try:
            async for event in terminal:
                if isinstance(event, Exit):
                    return _exit_frame(event.code)
                await socket.send_text("output", event.data)
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)
    raise AssertionError("a terminal ends with its exit")


async def _type(socket: FrameSocket, terminal: Terminal) -> None:
    while True:
        frame = await socket.receive()
        match frame:
            case {"type": "input", "data": str(data)}:
                await terminal.send_stdin(data.encode("utf-8", "replace"))
            case {"type": "resize", "rows": rows, "cols": cols} if _is_side(rows) and _is_side(cols):
                await terminal.resize(rows, cols)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= SIDE_MAX


@contextlib.asynccontextmanager
async def _opened(socket: FrameSocket, start: Start) -> AsyncIterator[Terminal]:
    """The terminal, in the first of the target's folders that exists."""
    argv = None
    if start.command is not None:
        argv = ["/bin/sh", "-c", start.command] if start.args is None else [start.command, *start.args]
    target = socket.target
    async with contextlib.AsyncExitStack() as stack:

        async def attempt(cwd: str) -> Terminal:
            return await stack.enter_async_context(
                guest.open_terminal(
                    target.endpoint,
                    rows=start.rows,
                    cols=start.cols,
                    argv=argv,
                    env={**ENVIRONMENT, **(start.env or {})},
                    cwd=cwd,
                    user=target.defaults.user,
                )
            )

        yield await in_folder(target, start.workdir, attempt)


def _exit_frame(code: int) -> Frame:
    return {"type": "exit", "code": code, "exitCode": code}
