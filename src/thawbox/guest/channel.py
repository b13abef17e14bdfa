"""One connection to the agent: frames in and out, bounded and checked."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from thawbox.agent import protocol
from thawbox.errors import GuestFault, GuestUnreachable

from . import operations
from .fields import Object, field, text_field

CONNECT_S = 8.0
"""Shorter than every operation's timeout, so that it is known whether a request was sent."""
CONNECT_AGAIN_S = 1.0
"""After this time without an answer, connecting is tried again from another port. An agent accepts at once, but about
one connection in ten thousand is never answered, and the next one is. The cause is not known."""
READ_AHEAD = 256 * 1024
"""Bytes that are buffered; at twice as many, reading pauses."""
QUICK_S = 10.0
"""Timeout of an operation that only looks something up."""


class GuestError(Exception):
    """The agent refused the operation: ``code`` for programs, ``message`` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Endpoint:
    """Where an agent listens, and its secret (64 hex digits)."""

    host: str
    port: int
    secret: str = dataclass_field(repr=False)


class Channel:
    """An open connection after its request. ``connect`` makes it and closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = protocol.Decoder(protocol.FROM_GUEST)
        self._frames: list[protocol.Frame] = []

    async def send(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame; waits while the agent does not read.

        Raises:
            GuestFault: the connection is broken.
        """
        try:
            self._writer.write(protocol.encode_frame(kind, payload))
            await self._writer.drain()
        except OSError as error:
            raise GuestFault(f"the agent closed the connection: {error}") from error

    async def receive(self) -> protocol.Frame:
        """The next frame.

        Raises:
            GuestError: it is an ERROR.
            GuestFault: the agent closed the connection, or the frame is not valid.
        """
        while not self._frames:
            try:
                data = await self._reader.read(256 * 1024)
                if not data:
                    raise GuestFault("the agent closed the connection without an answer")
                self._frames = self._decoder.feed(data)
            except OSError as error:
                raise GuestFault(f"the agent closed the connection: {error}") from error
            except protocol.ProtocolError as error:
                raise GuestFault(f"the agent sent an invalid frame: {error}") from error
        kind, payload = self._frames.pop(0)
        if kind == protocol.ERROR:
            value = self.object(payload)
            # A message may quote the name of a file, which may be any bytes.
            message = field(value, "message", str)[:8192].encode("utf-8", "replace").decode()
            raise GuestError(text_field(value, "code")[:64], message)
        return kind, payload

    async def expect_object(self, kind: int) -> Object:
        """The next frame's JSON object; it must be of ``kind``.

        Raises:
            GuestError, GuestFault: see ``receive``.
        """
        got, payload = await self.receive()
        if got != kind:
            raise GuestFault(f"the agent sent a frame of kind {got} where {kind} was expected")
        return self.object(payload)

    async def expect_end(self) -> None:
        """Wait until the agent has closed its side.

        Raises:
            GuestFault: it sends more, or breaks the connection.
        """
        try:
            if self._frames or not self._decoder.empty or await self._reader.read(1):
                raise GuestFault("the agent sent more after its answer")
        except OSError as error:
            raise GuestFault(f"the agent closed the connection: {error}") from error

    async def stream(self) -> AsyncIterator[bytes]:
        """The payloads of DATA frames until END.

        Raises:
            GuestError, GuestFault: see ``receive``.
        """
        while True:
            kind, payload = await self.receive()
            if kind == protocol.END:
                return
            if kind != protocol.DATA:
                raise GuestFault(f"the agent sent a frame of kind {kind} inside a stream")
            yield payload

    def object(self, payload: bytes) -> Object:
        """The JSON object in a payload.

        Raises:
            GuestFault: it is not one.
        """
        try:
            return protocol.decode_object(payload)
        except protocol.ProtocolError as error:
            raise GuestFault(f"the agent sent an invalid payload: {error}") from error

    def json(self, payload: bytes) -> Any:
        """The JSON value in a payload.

        Raises:
            GuestFault: it is not JSON.
        """
        try:
            return protocol.decode_json(payload)
        except protocol.ProtocolError as error:
            raise GuestFault(f"the agent sent an invalid payload: {error}") from error


@asynccontextmanager
async def connect(endpoint: Endpoint, op: str, fields: Mapping[str, Any]) -> AsyncIterator[Channel]:
    """A connection on which ``op`` has been requested; always closed at the end of the block.

    Fields that are None are not sent.

    Raises:
        GuestUnreachable: the agent does not accept the connection. A GuestFault after that: the operation may have been
            performed.
        GuestError: INVALID: the request is too long. UNKNOWN_OPERATION: the agent is too old, with what to do.
    """
    try:
        present = {name: value for name, value in fields.items() if value is not None}
        request = protocol.encode_request(op, endpoint.secret, present)
    except protocol.ProtocolError as error:
        raise GuestError("INVALID", str(error)) from error
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await _open(endpoint)
    except (OSError, TimeoutError) as error:
        raise GuestUnreachable(
            f"the agent at {endpoint.host}:{endpoint.port} accepts no connection: {error}"
        ) from error
    try:
        detect_death(writer.get_extra_info("socket"))
        writer.write(request)
        yield Channel(reader, writer)
    except GuestError as error:
        if error.code != "UNKNOWN_OPERATION":
            raise
        raise GuestError(error.code, operations.unknown(op)) from error
    finally:
        writer.transport.abort()  # without waiting for unsent data


async def _open(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_AGAIN_S):
                return await asyncio.open_connection(endpoint.host, endpoint.port, limit=READ_AHEAD)


def detect_death(sock: socket.socket) -> None:
    """Have the kernel break the connection after 11 s without answers to keep-alive probes.

    A sandbox that dies takes its network stack with it, so its connections are not closed.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 11_000)


async def upload(
    endpoint: Endpoint,
    op: str,
    fields: Mapping[str, Any],
    chunks: AsyncIterable[bytes] | bytes,
    end: Callable[[], Object] | None = None,
) -> Object:
    """Request ``op``, send ``chunks`` as DATA and END, and return the RESULT.

    ``end`` is called after the last chunk; END carries what it returns.

    The agent may refuse before the end (no space left); then the rest is not sent.

    Raises:
        GuestError, GuestFault: see ``Channel.receive``. Errors of ``chunks`` are not caught.
    """
    async with connect(endpoint, op, fields) as channel:
        answering = asyncio.create_task(channel.expect_object(protocol.RESULT))
        sending = asyncio.create_task(_send_all(channel, chunks, end))
        try:
            await asyncio.wait((answering, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not isinstance(sending.exception(), GuestFault | None):
                sending.result()
            return await answering
        finally:
            for task in (answering, sending):
                task.cancel()
            await asyncio.gather(answering, sending, return_exceptions=True)


async def _send_all(
    channel: Channel, chunks: AsyncIterable[bytes] | bytes, end: Callable[[], Object] | None
) -> None:
    if isinstance(chunks, bytes):
        await _send_chunk(channel, chunks)
    else:
        async for chunk in chunks:
            await _send_chunk(channel, chunk)
    await channel.send(protocol.END, protocol.encode_json(end()) if end is not None else b"")


async def _send_chunk(channel: Channel, chunk: bytes) -> None:
    for at in range(0, len(chunk), protocol.BLOCK):
        await channel.send(protocol.DATA, chunk[at : at + protocol.BLOCK])


async def call(endpoint: Endpoint, op: str, fields: Object, timeout: float) -> Object:
    """Send one request and return its one RESULT. ``timeout`` in seconds.

    Raises:
        GuestError, GuestFault: see ``Channel.receive``.
    """
    async with deadline(timeout), connect(endpoint, op, fields) as channel:
        answer = await channel.expect_object(protocol.RESULT)
        await channel.expect_end()
        return answer


@asynccontextmanager
async def deadline(seconds: float | None) -> AsyncIterator[None]:
    """Limit the block to ``seconds``; None: no limit.

    Raises:
        GuestFault: the block took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise GuestFault(f"the agent did not answer within {seconds:g} s") from None
