"""WebSockets of a sandbox: one JSON object per text frame, both ways.

What clients rely on: docs/reference/compatibility/websockets.md#frames.

A route passes its session to ``serve``, which does the rest: access, frames in and out, the pause between them
that some clients need, back-pressure, and the end, whichever side causes it.
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
from thawbox.gateway.context import context_of
from thawbox.gateway.run.execution import DEATH_NOTED_S
from thawbox.gateway.target import Target, target_of
from thawbox.guest import GuestError
from thawbox.sandboxes.serving import ServingContext
from thawbox.store import sandboxes as rows
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.util.timestamps import rfc3339
from thawbox.web.context import header

from .frames import Frame, FrameQueue

log = logs.get(__name__)

SPACING_S = 0.01
"""Pause between two frames for clients that lose what comes in one piece: the TypeScript client listens with
one-shot handlers, loses every further frame of a TCP segment, and hangs if the last is among them."""
INPUT_WAITING = 64
"""Most frames of a client that wait for the session."""
STUCK_S = 30.0
"""How long a client may stop reading, or a session stop taking input, before the connection ends."""
CHECK_S = 1.0
"""Time between two checks that the sandbox still exists and runs."""

NORMAL = 1000
GOING_AWAY = 1001
UNEXPECTED = 1011

Session = Callable[["FrameSocket"], Awaitable[Frame | None]]
"""Exchanges frames over the socket until it is done; returns the final frame, or None to send none."""

_NEEDS_SPACING = re.compile(r"node|ws/|undici|axios", re.IGNORECASE)


class FrameSocket:
    """A WebSocket that has been accepted; made and ended by ``serve``."""

    def __init__(
        self,
        context: ServingContext,
        target: Target,
        *,
        spaced: bool,
    ) -> None:
        self.context = context
        self.target = target
        self.spaced = spaced
        self._outgoing = FrameQueue()
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._added = asyncio.Event()
        self._has_room = asyncio.Event()
        self._complete = False
        self._discards_input = False
        self._incoming: asyncio.Queue[Frame] = asyncio.Queue(INPUT_WAITING)

    async def receive(self) -> Frame:
        """The client's next frame. Waits for ever: when the client leaves, the session is cancelled."""
        return await self._incoming.get()

    def discard_input(self) -> None:
        """Discard what the client sends from now on. Without this a session has to go on receiving."""
        self._discards_input = True
        while not self._incoming.empty():
            self._incoming.get_nowait()

    async def send(self, frame: Frame) -> None:
        """Queue a frame; waits while the client does not read."""
        self._flush_text()
        await self.send_between(frame)

    async def send_between(self, frame: Frame) -> None:
        """As ``send``, in the middle of streams that go on: a character may be split there."""
        self._outgoing.add(frame)
        await self._wait_for_room()

    async def send_text(self, kind: str, data: bytes, encoding: str = "utf-8", **fields: Any) -> None:
        """Queue a piece of the stream ``kind`` as ``{"type": kind, "data": text}``; waits like ``send``.

        A character may be split between two pieces. Bytes that are not valid in ``encoding`` become U+FFFD.
        """
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = codecs.getincrementaldecoder(encoding)("replace")
        self._outgoing.add_text(kind, decoder.decode(data), **fields)
        await self._wait_for_room()

    def finish(self, last: Frame | None) -> None:
        """Queue the final frame; nothing may follow."""
        self._flush_text()
        if last is not None:
            self._outgoing.add(last)
        self._complete = True
        self._added.set()

    def _flush_text(self) -> None:
        """An incomplete character at the end of a stream becomes U+FFFD."""
        for kind, decoder in self._decoders.items():
            self._outgoing.add_text(kind, decoder.decode(b"", final=True))
        self._decoders.clear()

    async def _wait_for_room(self) -> None:
        self._added.set()
        while self._outgoing.full:
            self._has_room.clear()
            await self._has_room.wait()

    async def _write(self, websocket: WebSocket) -> None:
        """Send what is queued, until ``finish``; ends early if the client leaves or does not read."""
        free_at = 0.0  # on the loop's clock
        while True:
            if not self._outgoing:
                if self._complete:
                    await self._pause(free_at)  # the close frame needs the pause, too
                    return
                self._added.clear()
                await self._added.wait()
                continue
            await self._pause(free_at)
            text = json.dumps(self._outgoing.take(), separators=(",", ":"))
            self._has_room.set()
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
        """Receive frames until the client leaves."""
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = _parse(message)
            if frame is None or self._discards_input:
                continue
            try:
                async with asyncio.timeout(STUCK_S):
                    await self._incoming.put(frame)
            except TimeoutError:
                return


async def serve(websocket: WebSocket, session: Session, *, failed: Frame | None = None) -> None:
    """Accept, run ``session`` side by side with reading and writing, send its final frame, close.

    The session is cancelled when the client leaves, when the server stops, and when the sandbox ends or is
    paused. If the session fails, the client gets ``{"type": "error", "error", "code"}`` and then
    ``failed``, because clients wait for their final frame.

    Raises:
        AuthenticationRequired, InvalidToken, SandboxNotFound, SandboxUnavailable: before the upgrade, so the
            client gets them as an ordinary answer.
    """
    context = context_of(websocket)
    target = await target_of(websocket)
    await websocket.accept()
    spaced = needs_spacing(header(websocket.scope, b"user-agent"))
    socket = FrameSocket(context, target, spaced=spaced)
    with metrics.OPEN_SOCKETS.labels(websocket.scope["route"].path).track_inprogress():
        await _run(websocket, context, socket, session, failed)


def needs_spacing(user_agent: str | None) -> bool:
    """Whether this could be a client that loses frames. Node's ``ws`` sends no User-Agent."""
    return not user_agent or _NEEDS_SPACING.search(user_agent) is not None


async def _run(
    websocket: WebSocket, context: ServingContext, socket: FrameSocket, session: Session, failed: Frame | None
) -> None:
    reading = asyncio.create_task(socket._read(websocket))
    writing = asyncio.create_task(socket._write(websocket))
    watching = asyncio.create_task(_until_sandbox_ends(context, socket.target.sandbox))
    running = asyncio.ensure_future(session(socket))
    tasks = (reading, writing, watching, running)
    try:
        await asyncio.wait(tasks, return_when=FIRST_COMPLETED)
        if reading.done() or writing.done():
            return
        if running.done() and not running.cancelled() and isinstance(running.exception(), GuestFault):
            # Usually the sandbox has ended, and its record will soon have the reason.
            await asyncio.wait(
                (reading, writing, watching), timeout=DEATH_NOTED_S, return_when=FIRST_COMPLETED
            )
        code = await _end(socket, watching if watching.done() else running, failed)
        watching.cancel()
        running.cancel()
        await asyncio.wait((reading, writing), return_when=FIRST_COMPLETED)
        if writing.done() and not reading.done():
            await websocket.close(code)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(socket: FrameSocket, task: asyncio.Future[Any], failed: Frame | None) -> int:
    """Queue the last frames, which report how ``task`` ended; returns the WebSocket's close code."""
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
        known = ThawboxError("Something broke inside the server. Its log has the details.")
    report = {"type": "error", "error": known.message, "code": known.code, "timestamp": rfc3339(time.time())}
    socket._flush_text()
    socket._outgoing.add(report)
    socket.finish(failed)
    if isinstance(known, SandboxUnavailable | SandboxEnded):
        return GOING_AWAY
    return NORMAL if isinstance(known, UserError) else UNEXPECTED


async def _until_sandbox_ends(context: ServingContext, sandbox: SandboxRow) -> None:
    """Never returns.

    Raises:
        SandboxEnded: the sandbox died. SandboxUnavailable: it no longer runs, or was resumed since.
    """
    while True:
        await asyncio.sleep(CHECK_S)
        async with context.database.read() as connection:
            row = await rows.get(connection, sandbox.id)
        if row is None or row.expired(time.time()):
            raise SandboxUnavailable(f"Sandbox {sandbox.id} has ended.")
        if row.status == SandboxStatus.ERROR:
            raise SandboxEnded(f"Sandbox {sandbox.id} has ended: {row.reason or 'it died'}.")
        if row.status != SandboxStatus.RUNNING:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} is {row.status}.")
        if row.secret != sandbox.secret:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} was resumed: connect again.")


def _parse(message: Any) -> Frame | None:
    """The JSON object in a message; None if it is empty or something else."""
    content = message.get("text") or message.get("bytes")
    try:
        value = json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
