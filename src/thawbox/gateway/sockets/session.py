"""WebSockets of a sandbox: one JSON object per text frame, both ways (contract E.7).

A route hands its session to ``serve``, which does the rest: who may, frames in and out, the pause between them
that some clients need, back-pressure, and the end, whoever causes it.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from thawbox import log as logs
from thawbox import metrics
from thawbox.errors import GuestFault, SandboxEnded, SandboxUnavailable, ThawboxError, UserError
from thawbox.gateway.context import GatewayContext, context_of
from thawbox.gateway.run.execution import DEATH_NOTED_S
from thawbox.gateway.target import Target, target_of
from thawbox.guest import GuestError
from thawbox.store import sandboxes as rows
from thawbox.store.sandboxes import SandboxRow
from thawbox.util.timestamps import rfc3339
from thawbox.web.context import header

from .frames import Frame, Waiting

log = logs.get(__name__)

SPACING_S = 0.01
"""Pause between two frames for clients that lose what comes in one piece: the TypeScript client listens with
one-shot handlers, loses every further frame of a TCP segment, and hangs if the last is among them."""
INPUT_WAITING = 64
"""Frames of a client that may wait for the session."""
STUCK_S = 30.0
"""How long a client may not read, or a session not take input, before the connection ends."""
LOOK_S = 1.0
"""How often we look whether the sandbox is still there and running."""

NORMAL = 1000
GOING_AWAY = 1001
UNEXPECTED = 1011

Session = Callable[["Socket"], Awaitable[Frame | None]]
"""Talks over the socket until it is done; returns the final frame, if there is to be one."""

_NEEDS_SPACING = re.compile(r"node|ws/|undici|axios", re.IGNORECASE)


class Socket:
    """A WebSocket that has been accepted; made and ended by ``serve``."""

    def __init__(
        self,
        parts: GatewayContext,
        target: Target,
        *,
        spaced: bool,
    ) -> None:
        self.parts = parts
        self.target = target
        self.spaced = spaced
        self._waiting = Waiting()
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._added = asyncio.Event()
        self._room = asyncio.Event()
        self._complete = False
        self._deaf = False
        self.arrived: asyncio.Queue[Frame] = asyncio.Queue(INPUT_WAITING)

    async def receive(self) -> Frame:
        """The client's next frame. Never ends by itself: when the client has gone, the session is cancelled."""
        return await self.arrived.get()

    def receive_no_more(self) -> None:
        """Throw away what else the client sends. Without this a session has to go on receiving."""
        self._deaf = True
        while not self.arrived.empty():
            self.arrived.get_nowait()

    async def send(self, frame: Frame) -> None:
        """Queue a frame; waits while the client does not read."""
        self._flush_text()
        await self.send_between(frame)

    async def send_between(self, frame: Frame) -> None:
        """As ``send``, in the middle of streams that go on: a character may be cut there."""
        self._waiting.add(frame)
        await self._sent_soon()

    async def send_text(self, kind: str, data: bytes, encoding: str = "utf-8", **fields: Any) -> None:
        """Queue a piece of the stream ``kind`` as ``{"type": kind, "data": text}``; waits like ``send``.

        A character may be cut anywhere between two pieces; what is no text in ``encoding`` becomes U+FFFD.
        """
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = codecs.getincrementaldecoder(encoding)("replace")
        self._waiting.add_text(kind, decoder.decode(data), **fields)
        await self._sent_soon()

    def finish(self, last: Frame | None) -> None:
        """Queue the final frame; nothing may follow."""
        self._flush_text()
        if last is not None:
            self._waiting.add(last)
        self._complete = True
        self._added.set()

    def _flush_text(self) -> None:
        """A character that was begun and will not be completed is U+FFFD."""
        for kind, decoder in self._decoders.items():
            self._waiting.add_text(kind, decoder.decode(b"", final=True))
        self._decoders.clear()

    async def _sent_soon(self) -> None:
        self._added.set()
        while self._waiting.full:
            self._room.clear()
            await self._room.wait()

    async def _write(self, websocket: WebSocket) -> None:
        """Send what waits until ``finish``; ends early if the client is gone or does not read."""
        free_at = 0.0  # on the loop's clock
        while True:
            if not self._waiting:
                if self._complete:
                    await self._pause(free_at)  # the close frame, too, comes by itself
                    return
                self._added.clear()
                await self._added.wait()
                continue
            await self._pause(free_at)
            text = json.dumps(self._waiting.take(), separators=(",", ":"))
            self._room.set()
            try:
                async with asyncio.timeout(STUCK_S):
                    await websocket.send_text(text)
            except (TimeoutError, WebSocketDisconnect):
                return
            free_at = asyncio.get_running_loop().time() + SPACING_S

    async def _pause(self, until: float) -> None:
        left = until - asyncio.get_running_loop().time()
        if self.spaced and left > 0:
            await asyncio.sleep(left)

    async def _read(self, websocket: WebSocket) -> None:
        """Take frames until the client is gone."""
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = _parsed(message)
            if frame is None or self._deaf:
                continue
            try:
                async with asyncio.timeout(STUCK_S):
                    await self.arrived.put(frame)
            except TimeoutError:
                return


async def serve(websocket: WebSocket, session: Session, *, failed: Frame | None = None) -> None:
    """Accept, run ``session`` side by side with reading and writing, send its final frame, close.

    The session is cancelled when the client goes, when the server stops, and when the sandbox ends or is
    paused. If it cannot be brought to its end, the client gets ``{"type": "error", "error", "code"}`` and then
    ``failed``, because clients wait for their final frame.

    Raises:
        AuthenticationRequired, InvalidToken, SandboxNotFound, SandboxUnavailable: before the upgrade, so the
            client gets them as an ordinary answer.
    """
    parts = context_of(websocket)
    target = await target_of(websocket)
    await websocket.accept()
    spaced = needs_spacing(header(websocket.scope, b"user-agent"))
    socket = Socket(parts, target, spaced=spaced)
    with metrics.OPEN_SOCKETS.labels(websocket.scope["route"].path).track_inprogress():
        await _run(websocket, parts, socket, session, failed)


def needs_spacing(user_agent: str | None) -> bool:
    """Whether this could be a client that loses frames: node's ``ws`` names no agent."""
    return not user_agent or _NEEDS_SPACING.search(user_agent) is not None


async def _run(
    websocket: WebSocket, parts: GatewayContext, socket: Socket, session: Session, failed: Frame | None
) -> None:
    reading = asyncio.create_task(socket._read(websocket))
    writing = asyncio.create_task(socket._write(websocket))
    looking = asyncio.create_task(_until_sandbox_ends(parts, socket.target.sandbox))
    talking = asyncio.ensure_future(session(socket))
    tasks = (reading, writing, looking, talking)
    try:
        await asyncio.wait(tasks, return_when=FIRST_COMPLETED)
        if reading.done() or writing.done():
            return
        if talking.done() and not talking.cancelled() and isinstance(talking.exception(), GuestFault):
            # Mostly the sandbox has ended, and its record is about to say why.
            await asyncio.wait(
                (reading, writing, looking), timeout=DEATH_NOTED_S, return_when=FIRST_COMPLETED
            )
        code = await _end(socket, looking if looking.done() else talking, failed)
        looking.cancel()
        talking.cancel()
        await asyncio.wait((reading, writing), return_when=FIRST_COMPLETED)
        if writing.done() and not reading.done():
            await websocket.close(code)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(socket: Socket, task: asyncio.Future[Any], failed: Frame | None) -> int:
    """Queue what is said last about how ``task`` ended; returns the code to close with."""
    try:
        socket.finish(task.result())
        return NORMAL
    except GuestError as error:
        known: ThawboxError = UserError(f"The sandbox refused: {error.message}.")
    except GuestFault as error:
        known = SandboxUnavailable(
            f"The agent of sandbox {socket.target.sandbox.id} broke off: {error.message}"
        )
    except ThawboxError as error:
        known = error
    except Exception as error:
        metrics.REQUEST_FAULTS.labels("gateway").inc()
        log.error("socket_broke", exc_info=error)
        known = ThawboxError("Something broke inside the server. Its log tells what.")
    said = {"type": "error", "error": known.message, "code": known.code, "timestamp": rfc3339(time.time())}
    socket._flush_text()
    socket._waiting.add(said)
    socket.finish(failed)
    if isinstance(known, SandboxUnavailable | SandboxEnded):
        return GOING_AWAY
    return NORMAL if isinstance(known, UserError) else UNEXPECTED


async def _until_sandbox_ends(parts: GatewayContext, sandbox: SandboxRow) -> None:
    """Returns never.

    Raises:
        SandboxEnded: the sandbox died. SandboxUnavailable: it is not running any more, or it is another life of it.
    """
    while True:
        await asyncio.sleep(LOOK_S)
        async with parts.database.read() as connection:
            now = await rows.get(connection, sandbox.id)
        if now is None or now.expired(time.time()):
            raise SandboxUnavailable(f"Sandbox {sandbox.id} has ended.")
        if now.status == "error":
            raise SandboxEnded(f"Sandbox {sandbox.id} has ended: {now.reason or 'it died'}.")
        if now.status != "running":
            raise SandboxUnavailable(f"Sandbox {sandbox.id} is {now.status}.")
        if now.secret != sandbox.secret:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} was resumed: connect again.")


def _parsed(message: Any) -> Frame | None:
    """The JSON object in a message; None if it is empty or no such thing."""
    content = message.get("text") or message.get("bytes")
    try:
        value = json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
