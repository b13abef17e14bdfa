"""``/tcp/{port}``: a WebSocket that carries one TCP connection to a program inside, for ``thaw forward``.

Binary messages are its bytes, both ways. The text message ``end`` means that a side sends no more, as FIN does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from thawbox.errors import GuestFault, PortNotReachable, SandboxUnavailable, ThawboxError, UserError
from thawbox.gateway.context import context_of, sandbox_of
from thawbox.gateway.sockets.both_ways import until_one_ends
from thawbox.guest.reach import NothingListens, reach
from thawbox.web.addresses import INTERFACE_PORT

from .concurrency import Concurrency

router = APIRouter(tags=["ports"])

END = "end"
PIECE = 64 * 1024


@router.websocket("/tcp/{port}")
async def tcp(websocket: WebSocket, port: int) -> None:
    """Connect first, then accept: an accepted client has a connection."""
    try:
        await _serve(websocket, port)
    except ThawboxError as error:
        if websocket.client_state is WebSocketState.CONNECTING:
            raise
        await websocket.close(1011, error.message[:100])


async def _serve(websocket: WebSocket, port: int) -> None:
    sandbox = await sandbox_of(websocket)
    if not 0 < port < 65536 or port == INTERFACE_PORT:
        raise UserError(f"Port {port} cannot be a program's: use 1 to 65535 without {INTERFACE_PORT}.")
    limit: Concurrency = websocket.app.state.port_connections
    endpoint = await context_of(websocket).sandboxes.endpoint(sandbox)
    with limit.hold(sandbox.id):
        try:
            async with reach(endpoint, port) as sock:
                reader, writer = await asyncio.open_connection(sock=sock)
                try:
                    await websocket.accept()
                    await _relay(websocket, reader, writer)
                finally:
                    writer.transport.abort()
        except NothingListens:
            raise PortNotReachable(f"Nothing listens on port {port} in sandbox {sandbox.id}.") from None
        except GuestFault as error:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} does not answer: {error.message}") from error


async def _relay(websocket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(WebSocketDisconnect, OSError):
        await until_one_ends(_inward(websocket, writer), _outward(websocket, reader))
        await websocket.close()


async def _inward(websocket: WebSocket, writer: asyncio.StreamWriter) -> None:
    """From the client to the program, until the client leaves."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if message.get("text") == END:
            writer.write_eof()
        elif data := message.get("bytes"):
            with suppress(OSError):  # it reads no more; what it sends is still to be read
                writer.write(data)
                await writer.drain()


async def _outward(websocket: WebSocket, reader: asyncio.StreamReader) -> None:
    """From the program to the client, then ``end``. Never returns: it is the client that closes."""
    while data := await reader.read(PIECE):
        await websocket.send_bytes(data)
    await websocket.send_text(END)
    await asyncio.Event().wait()
