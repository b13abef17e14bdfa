"""Connections to programs inside: directly if they listen on every address, else through the agent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from thawbox.agent import protocol
from thawbox.errors import GuestFault

from .channel import Channel, Endpoint, GuestError, connect, detect_death

DIRECT_S = 3.0
DIAL_S = 8.0
"""Seconds; the agent tries two addresses."""
PIECE = 64 * 1024


class NothingListens(Exception):
    """No program inside accepts connections at this port."""


@asynccontextmanager
async def reach(endpoint: Endpoint, port: int) -> AsyncIterator[socket.socket]:
    """A connected, non-blocking stream socket to ``port`` inside; always closed at the end of the block.

    Programs that listen on loopback alone are reached through the agent (``dial``); their bytes then pass through this
    process a second time.

    Raises:
        NothingListens: there is no program at this port.
        GuestFault: the sandbox does not answer.
    """
    direct = await _direct(endpoint.host, port)
    if direct is not None:
        with direct:
            yield direct
        return
    async with _dialled(endpoint, port) as ours:
        yield ours


async def _direct(host: str, port: int) -> socket.socket | None:
    """A connection to the sandbox's own address; None: no program listens there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(DIRECT_S):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        detect_death(sock)
    except (OSError, TimeoutError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def _dialled(endpoint: Endpoint, port: int) -> AsyncIterator[socket.socket]:
    async with connect(endpoint, "dial", {"port": port}) as channel:
        try:
            async with asyncio.timeout(DIAL_S):
                await channel.expect_object(protocol.STARTED)
        except GuestError as error:
            if error.code == "NOT_LISTENING":
                raise NothingListens from error
            raise GuestFault(f"the agent cannot connect to the port: {error}") from error
        except TimeoutError:
            raise GuestFault(f"the agent did not answer within {DIAL_S:g} s") from None
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            pumps = [
                asyncio.create_task(_inward(theirs, channel)),
                asyncio.create_task(_outward(channel, theirs)),
            ]
            try:
                yield ours
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)


async def _inward(theirs: socket.socket, channel: Channel) -> None:
    loop = asyncio.get_running_loop()
    # If either end is broken, the other direction reports it to its reader.
    with suppress(OSError, GuestFault):
        while data := await loop.sock_recv(theirs, PIECE):
            await channel.send(protocol.DATA, data)
        await channel.send(protocol.END)


async def _outward(channel: Channel, theirs: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        try:
            async for data in channel.stream():
                await loop.sock_sendall(theirs, data)
            theirs.shutdown(socket.SHUT_WR)
        except (GuestFault, GuestError):
            # The connection broke: shut down both directions, so that a writer notices too.
            theirs.shutdown(socket.SHUT_RDWR)
