"""Connections to programs inside, by a real agent, and by one that lies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from tests.support.hostile_agent import NONSENSE, lying_agent
from thawbox.agent import protocol
from thawbox.agent.protocol import encode_frame, encode_object
from thawbox.errors import GuestFault
from thawbox.guest import Endpoint, GuestError, ping, reach
from thawbox.guest.channel import connect

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def program(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[int]:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(once, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
def by_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no program listened at the sandbox's own address."""

    async def nobody(_host: str, _port: int) -> None:
        return None

    monkeypatch.setattr(reach, "_direct", nobody)


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when the client has ended its side."""
    writer.write((await reader.read()).upper())
    await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def reached(
    endpoint: Endpoint, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(20), reach.reach(endpoint, port) as sock:
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@pytest.mark.usefixtures("by_agent")
async def test_each_side_ends_its_own(endpoint: Endpoint) -> None:
    async with program(shout) as port, reached(endpoint, port) as (reader, writer):
        writer.write(b"over" * 200_000)
        writer.write_eof()
        assert await reader.read() == b"OVER" * 200_000


@pytest.mark.usefixtures("by_agent")
async def test_much_both_ways_at_once(endpoint: Endpoint) -> None:
    size = 8 * 2**20

    async def send(writer: asyncio.StreamWriter) -> None:
        for _ in range(size // 65536):
            writer.write(bytes(65536))
            await writer.drain()
        writer.write_eof()

    async with program(echo) as port, reached(endpoint, port) as (reader, writer):
        sending = asyncio.create_task(send(writer))
        got = 0
        while data := await reader.read(65536):
            got += len(data)
        await sending
    assert got == size


@pytest.mark.usefixtures("by_agent")
async def test_ipv6_loopback(endpoint: Endpoint) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    async with program(shout, "::1") as port, reached(endpoint, port) as (reader, writer):
        writer.write(b"six")
        writer.write_eof()
        assert await reader.read() == b"SIX"


@pytest.mark.usefixtures("by_agent")
async def test_a_program_that_leaves(endpoint: Endpoint) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with program(leave) as port, reached(endpoint, port) as (reader, writer):
        writer.write(b"x")
        assert await reader.read() == b""


@pytest.mark.usefixtures("by_agent")
async def test_a_client_that_leaves_ends_it_inside(endpoint: Endpoint) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        try:
            while True:  # a half-close alone would not be the end
                await reader.read(65536)
                writer.write(b"more")
                await writer.drain()
        finally:
            ended.set()

    async with program(wait) as port:
        async with reached(endpoint, port) as (reader, writer):
            assert await reader.readexactly(5) == b"hello"
            assert not writer.is_closing()
        async with asyncio.timeout(10):
            await ended.wait()


@pytest.mark.usefixtures("by_agent")
async def test_a_client_that_does_not_read_stops_the_program(endpoint: Endpoint) -> None:
    sent = 0
    held_up = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(65536))
            if writer.transport.get_write_buffer_size():
                held_up.set()  # the kernel takes no more for now
            await writer.drain()
            sent += 65536

    async with program(flood) as port, reach.reach(endpoint, port):
        async with asyncio.timeout(20):
            await held_up.wait()
        before = -1
        while before != sent:  # until nothing moves any more while the agent serves others
            before = sent
            for _ in range(50):
                await ping(endpoint)
        assert 0 < sent < 64 * 2**20


async def test_nothing_listens(endpoint: Endpoint) -> None:
    async with program(echo) as port:
        pass
    with pytest.raises(reach.NothingListens):
        async with reach.reach(endpoint, port):
            pass


@pytest.mark.parametrize("port", [0, -1, 65536, 1.5, "80", None, True, [80]])
async def test_ports_that_are_none(endpoint: Endpoint, port: object) -> None:
    with pytest.raises(GuestError, match="INVALID"):
        async with connect(endpoint, "dial", {"port": port}) as channel:
            await channel.expect_object(protocol.STARTED)


async def test_the_agent_wants_its_secret_first(endpoint: Endpoint) -> None:
    async with program(echo) as port:
        with pytest.raises(GuestFault):
            async with reach._dialled(replace(endpoint, secret="0" * 64), port):
                pass


@pytest.mark.parametrize(
    "frames",
    [
        encode_frame(protocol.STDIN, b"x"),
        b"\xff\0\0\0\0",
        b"\x04\xff\xff\xff\xff",
        encode_frame(protocol.END) * 2,
    ],
)
async def test_nonsense_to_the_agent_ends_the_connection(endpoint: Endpoint, frames: bytes) -> None:
    async with (
        program(echo) as port,
        asyncio.timeout(10),
        connect(endpoint, "dial", {"port": port}) as channel,
    ):
        await channel.expect_object(protocol.STARTED)
        channel._writer.write(frames)
        with contextlib.suppress(GuestFault):
            while (await channel.receive())[0] != protocol.END:
                pass
    await ping(endpoint)


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
@pytest.mark.usefixtures("by_agent")
async def test_an_agent_that_lies(answer: bytes) -> None:
    async with lying_agent(answer) as endpoint:
        with pytest.raises(GuestFault):
            async with reach.reach(endpoint, 80):
                pass


STARTED = encode_object(protocol.STARTED, {})


@pytest.mark.parametrize("answer", [encode_frame(protocol.EXIT, b"{}"), b"\x04\0\0\1\0half", b""])
@pytest.mark.usefixtures("by_agent")
async def test_an_agent_that_breaks_off(answer: bytes) -> None:
    said = STARTED + encode_frame(protocol.DATA, b"some") + answer
    async with lying_agent(said) as endpoint, reached(endpoint, 80) as (reader, writer):
        assert await reader.read() == b"some"
        with pytest.raises(OSError):  # shut both ways: broken off is not ended
            await _write_on(writer)


async def _write_on(writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        writer.write(bytes(65536))
        await writer.drain()


@pytest.mark.usefixtures("by_agent")
async def test_an_agent_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "DIAL_S", 0.2)
    async with lying_agent(b"", stays_open=True) as endpoint:
        with pytest.raises(GuestFault, match="did not answer"):
            async with reach.reach(endpoint, 80):
                pass
