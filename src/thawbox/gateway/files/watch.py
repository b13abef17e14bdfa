"""``/files/watch``: what changes in a folder, over a WebSocket.

What clients rely on: docs/reference/compatibility/websockets.md#watching-files.

Client to server, once: ``{"action": "watch", "path"}``, with ``"ack": true`` (our own addition) answered by
``{"type": "watching", "path", "method"}``: from then on no change is missed. Server to client, until it closes:
``{"type": "change", "path", "event", "timestamp"}``; ``renamed`` also has ``old_path``.
"""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter
from starlette.websockets import WebSocket

from thawbox import guest
from thawbox.errors import UserError
from thawbox.gateway.context import context_of
from thawbox.gateway.sockets.frames import Frame
from thawbox.gateway.sockets.session import FrameSocket, serve
from thawbox.guest import Change, GuestError
from thawbox.util.timestamps import rfc3339

from .paths import absolute, file_error

router = APIRouter(tags=["files"])

FIRST_FRAME_S = 30.0
"""Longest wait for the client's first frame."""


@router.websocket("/files/watch")
async def watch(websocket: WebSocket) -> None:
    """Changes at and below a path, with everything in its folders, until the client closes."""
    settings = context_of(websocket).settings

    async def session(socket: FrameSocket) -> None:
        first = await _first_frame(socket)
        path = absolute(first["path"], settings)
        socket.discard_input()
        try:
            async with guest.watch_folder(socket.target.endpoint, path) as changes:
                if first.get("ack") is True:
                    await socket.send({"type": "watching", "path": path, "method": changes.method})
                async for change in changes:
                    await socket.send(_frame(change))
        except GuestError as error:
            raise file_error(error, path) from error

    await serve(websocket, session)


async def _first_frame(socket: FrameSocket) -> Frame:
    try:
        async with asyncio.timeout(FIRST_FRAME_S):
            frame = await socket.receive()
    except TimeoutError:
        raise UserError(f"No frame came within {FIRST_FRAME_S:g} s.") from None
    if frame.get("action") != "watch" or not isinstance(frame.get("path"), str):
        raise UserError('The first frame must be {"action": "watch", "path": "..."}.')
    return frame


def _frame(change: Change) -> Frame:
    return {
        "type": "change",
        "path": change.path,
        "event": change.event,
        "timestamp": rfc3339(min(max(change.time, 0.0), time.time() + 86_400)),
        **({} if change.old_path is None else {"old_path": change.old_path}),
        **({"overflow": True} if change.overflow else {}),
    }
