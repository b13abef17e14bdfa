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

from .http import Asked, ProgramFailed

HANDSHAKE_S = 30.0
MESSAGE_MAX = 16 * 1024 * 1024
"""Bytes of one message, as our own listener has it."""
_NOT_OF_AN_UPGRADE = (b"host", b"content-length", b"expect")
"""The first is in the address; with the others the program might wait for a body, and take frames for it."""
_NOT_FOR_THE_WIRE = {1005: 1000, 1006: 1011, 1015: 1011}
"""Codes that say how it ended without one, and what we send instead."""


async def forward_websocket(
    sock: socket.socket, asked: Asked, scope: Scope, receive: Receive, send: Send
) -> None:
    """Connect to the program over ``sock``, then accept the client, and pass messages on until one side closes.

    An answer of the program that is no WebSocket is passed on as it is.

    Raises:
        ProgramFailed: it gave no answer; the client is not accepted yet.
    """
    await receive()  # the client's request, which we have seen
    connecting = asyncio.create_task(_connect(sock, asked, scope))
    leaving = asyncio.ensure_future(receive())  # before it is accepted, a client can do nothing else
    try:
        await asyncio.wait((connecting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            return
        program = connecting.result()
    except InvalidStatus as error:
        await _pass_on(error.response, send)
        return
    except (WebSocketException, OSError, EOFError, ValueError) as error:
        raise ProgramFailed(f"does not take the WebSocket ({str(error)[:200]})") from None
    finally:
        connecting.cancel()
        leaving.cancel()
        await asyncio.gather(connecting, leaving, return_exceptions=True)
    try:
        await send({"type": "websocket.accept", "subprotocol": program.subprotocol})
        with suppress(OSError, WebSocketException):  # a side that is gone needs no word more
            await until_one_ends(_inward(program, receive), _outward(program, send))
    finally:
        program.transport.abort()


async def _connect(sock: socket.socket, asked: Asked, scope: Scope) -> ClientConnection:
    host = next((value for name, value in asked.headers if name == b"host"), b"localhost").decode("latin-1")
    return await connect(
        f"ws://{host}{asked.target.decode('latin-1')}",
        sock=sock,
        additional_headers=[
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in asked.headers
            if name not in _NOT_OF_AN_UPGRADE and not name.startswith(b"sec-websocket-")
        ],
        subprotocols=[Subprotocol(name) for name in scope.get("subprotocols") or ()] or None,
        compression=None,  # the hop inside this machine is not worth it
        user_agent_header=None,
        proxy=None,
        open_timeout=HANDSHAKE_S,
        ping_interval=None,  # a program that is busy for a while is not dead
        max_size=MESSAGE_MAX,
        max_queue=1,
        close_timeout=5,
    )


async def _pass_on(response: Response, send: Send) -> None:
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
            await program.close(_NOT_FOR_THE_WIRE.get(code, code), message.get("reason") or "")
            return
        data = message.get("bytes")
        try:
            await program.send(message["text"] if data is None else data)
        except ConnectionClosed:
            await asyncio.Event().wait()  # the other way tells the client how it ended


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
            "code": _NOT_FOR_THE_WIRE.get(code, code),
            "reason": program.close_reason or "",
        }
    )
