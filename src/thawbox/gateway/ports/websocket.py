"""One WebSocket to a program inside: messages both ways, subprotocols, close codes."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from thawbox.gateway.sockets.both_ways import until_one_ends

from .http import ProgramFailed, ProgramRequest

HANDSHAKE_S = 30.0
MESSAGE_MAX = 16 * 1024 * 1024
"""Bytes of one message, the listener's own limit."""
_NOT_OF_AN_UPGRADE = (b"host", b"content-length", b"expect")
"""The first is in the address. With the others the program might wait for a body and take frames for it."""
_UNSENDABLE_CODES = {1005: 1000, 1006: 1011, 1015: 1011}
"""Close codes for an end without a code, which may not be sent; and what is sent instead."""


async def forward_websocket(
    sock: socket.socket, request: ProgramRequest, scope: Scope, receive: Receive, send: Send
) -> None:
    """Connect to the program over ``sock``, then accept the client, and pass messages on until one side closes.

    If the program answers with ordinary HTTP, the client gets that answer.

    Raises:
        ProgramFailed: the program did not answer; the client is not accepted yet.
    """
    await receive()  # the client's request, which is known already
    connecting = asyncio.create_task(_connect(sock, request, scope))
    leaving = asyncio.ensure_future(receive())  # before it is accepted, a client can only leave
    try:
        await asyncio.wait((connecting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            return
        program = connecting.result()
    except InvalidStatus as error:
        await _send_response(error.response, send)
        return
    except (WebSocketException, OSError, EOFError, ValueError) as error:
        raise ProgramFailed(f"does not take the WebSocket ({str(error)[:200]})") from None
    finally:
        connecting.cancel()
        leaving.cancel()
        await asyncio.gather(connecting, leaving, return_exceptions=True)
    try:
        await send({"type": "websocket.accept", "subprotocol": program.subprotocol})
        with suppress(OSError, WebSocketException):  # a side that has left needs no answer
            await until_one_ends(_inward(program, receive), _outward(program, send))
    finally:
        program.transport.abort()


async def _connect(sock: socket.socket, request: ProgramRequest, scope: Scope) -> ClientConnection:
    host = next((value for name, value in request.headers if name == b"host"), b"localhost").decode("latin-1")
    return await connect(
        f"ws://{host}{request.target.decode('latin-1')}",
        sock=sock,
        additional_headers=[
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.headers
            if name not in _NOT_OF_AN_UPGRADE and not name.startswith(b"sec-websocket-")
        ],
        subprotocols=[Subprotocol(name) for name in scope.get("subprotocols") or ()] or None,
        compression=None,  # not worth it on the hop inside this machine
        user_agent_header=None,
        proxy=None,
        open_timeout=HANDSHAKE_S,
        ping_interval=None,  # a program that is busy for a while is not dead
        max_size=MESSAGE_MAX,
        max_queue=1,
        close_timeout=5,
    )


async def _send_response(response: Response, send: Send) -> None:
    status = response.status_code if 200 <= response.status_code < 600 else 502
    kind = response.headers.get("content-type", "text/plain").encode("latin-1")
    await send(
        {"type": "websocket.http.response.start", "status": status, "headers": [(b"content-type", kind)]}
    )
    await send({"type": "websocket.http.response.body", "body": response.body or b""})


async def _inward(program: ClientConnection, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code") or 1005
            await program.close(_UNSENDABLE_CODES.get(code, code), message.get("reason") or "")
            return
        data = message.get("bytes")
        try:
            await program.send(message["text"] if data is None else data)
        except ConnectionClosed:
            await asyncio.Event().wait()  # the other direction tells the client how it ended


async def _outward(program: ClientConnection, send: Send) -> None:
    try:
        async for data in program:
            kind = "text" if isinstance(data, str) else "bytes"
            await send({"type": "websocket.send", kind: data})
    except ConnectionClosed:
        pass
    code = program.close_code or 1006
    await send(
        {
            "type": "websocket.close",
            "code": _UNSENDABLE_CODES.get(code, code),
            "reason": program.close_reason or "",
        }
    )
