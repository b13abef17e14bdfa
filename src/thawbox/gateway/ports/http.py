"""One HTTP/1.1 request to a program inside, and its answer back: both directions at once, in constant memory.

The request is written anew from what the listener parsed, and the answer from what h11 parsed. So no two readers can
disagree about where a message ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import h11
from starlette.types import Receive, Send

from thawbox.gateway.sockets.both_ways import until_one_ends

RawHeaders = list[tuple[bytes, bytes]]

HEAD_MAX = 64 * 1024
"""Bytes of the status line and headers of an answer."""
PIECE = 64 * 1024
_REWRITTEN = frozenset((b"expect", b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """The request for the program; ``headers`` are without the gateway's credentials, names are in lower case."""

    method: str
    target: bytes
    headers: RawHeaders
    chunked: bool
    """Whether the body has no length; then ``content-length`` is ignored."""


class ProgramFailed(Exception):
    """The message is what the program did wrong, as the end of a sentence. Nothing has been answered yet."""


async def forward_request(
    sock: socket.socket,
    request: ProgramRequest,
    for_client: Callable[[RawHeaders], RawHeaders],
    idle_s: float,
    receive: Receive,
    send: Send,
) -> None:
    """Pass the request to ``sock`` and the answer to ``send``; fail after ``idle_s`` seconds without a byte.

    Returns early, in the middle of the answer, if the client leaves or the program breaks off. The listener then
    closes the client's connection, which is how HTTP reports it.

    Raises:
        ProgramFailed: before the answer began.
    """
    reader, writer = await asyncio.open_connection(sock=sock)
    exchange = _Exchange(reader, writer, request, for_client, receive, send)
    try:
        async with asyncio.timeout(idle_s) as deadline:
            exchange.on_progress = lambda: deadline.reschedule(asyncio.get_running_loop().time() + idle_s)
            await until_one_ends(exchange.upload(), exchange.download())
    except TimeoutError:
        if not exchange.started:
            raise ProgramFailed(f"sent nothing for {idle_s:g} s") from None
    except (OSError, h11.RemoteProtocolError) as error:
        if not exchange.started:
            raise ProgramFailed(_problem(error)) from None
    finally:
        writer.transport.abort()  # everything of use has been read


def _problem(error: Exception) -> str:
    if isinstance(error, h11.RemoteProtocolError):
        return f"answers with something that is not HTTP ({error})"
    return "closed the connection before it answered"


class _Exchange:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: ProgramRequest,
        for_client: Callable[[RawHeaders], RawHeaders],
        receive: Receive,
        send: Send,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._request = request
        self._for_client = for_client
        self._receive = receive
        self._send = send
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)
        self.started = False
        """Whether the answer has begun."""
        self.on_progress: Callable[[], object] = lambda: None

    async def upload(self) -> None:
        """Send the request; then wait until the client leaves."""
        with suppress(OSError):  # what the program sent before it closed is still to be read
            await self._put(self._head())
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return
            self.on_progress()
            try:
                if message.get("body"):
                    await self._put(h11.Data(data=message["body"]))
                if not message.get("more_body", False):
                    await self._put(h11.EndOfMessage())
            except (OSError, h11.LocalProtocolError):
                continue  # it reads no more, perhaps because it has answered: discard the rest

    def _head(self) -> h11.Request:
        request = self._request
        headers = [(name, value) for name, value in request.headers if name not in _REWRITTEN]
        if request.chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            headers += [(name, value) for name, value in request.headers if name == b"content-length"][:1]
        if not any(name == b"host" for name, _ in headers):
            headers.append((b"host", b"localhost"))  # HTTP/1.0 has none
        headers.append((b"connection", b"close"))
        return h11.Request(method=request.method, target=request.target, headers=headers)

    async def _put(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()
            self.on_progress()

    async def download(self) -> None:
        """Pass the answer on."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(PIECE))
                self.on_progress()
            elif isinstance(event, h11.Response):
                await self._start(event)
            elif isinstance(event, h11.Data):
                await self._send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
                self.on_progress()
            elif isinstance(event, h11.EndOfMessage):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    raise h11.RemoteProtocolError("it switched protocols without being asked")
            else:
                raise ConnectionResetError

    async def _start(self, response: h11.Response) -> None:
        if response.status_code > 599:
            raise h11.RemoteProtocolError(f"status {response.status_code}")
        headers = [(name.lower(), value) for name, value in response.headers]
        if any(name == b"transfer-encoding" for name, _ in headers):
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        self.started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": self._for_client(headers),
            }
        )
