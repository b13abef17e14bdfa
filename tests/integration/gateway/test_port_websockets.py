"""WebSockets to programs inside, and raw TCP through one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.gateway import Gate
from tests.support.served import INSIDE, LOOPBACK, Served, dial, ok, program, serve


@pytest.fixture
async def served(gate: Gate) -> AsyncIterator[Served]:
    async with serve(gate) as made:
        yield made


def tcp(served: Served, port: int) -> connect:
    headers = {"Authorization": f"Bearer {served.token}"}
    url = f"ws://127.0.0.1:{served.port}/tcp/{port}"
    return connect(url, additional_headers=headers, proxy=None)


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.mark.parametrize("host", [INSIDE, LOOPBACK])
async def test_messages_both_ways(served: Served, host: str) -> None:
    async with serve_websockets(echo, host, 0, max_size=None) as inside:
        port = inside.sockets[0].getsockname()[1]
        async with dial(served, port) as websocket:
            for message in ("text", "", b"bytes", b"", b"x" * 5_000_000, "ü" * 1000):
                await websocket.send(message)
                assert await websocket.recv() == message


async def test_what_the_program_sees(served: Served) -> None:
    seen: list[ServerConnection] = []

    async def keep(websocket: ServerConnection) -> None:
        seen.append(websocket)
        await websocket.send(websocket.subprotocol or "none")

    async with serve_websockets(keep, INSIDE, 0, subprotocols=[Subprotocol("b"), Subprotocol("c")]) as inside:
        port = inside.sockets[0].getsockname()[1]
        async with dial(
            served,
            port,
            "/a%2Fb?x=1",
            subprotocols=["a", "b"],
            origin=f"http://{served.host(port)}",
            headers={"Cookie": "mine=1", "X-Real-IP": "6.6.6.6"},
        ) as websocket:
            assert websocket.subprotocol == "b"
            assert await websocket.recv() == "b"
    request = seen[0].request
    assert request is not None
    assert request.path == "/a%2Fb?x=1"
    assert request.headers["Host"] == served.host(port)
    assert request.headers["Origin"] == f"http://{served.host(port)}"
    assert request.headers["Cookie"] == "mine=1"
    assert request.headers["X-Forwarded-For"] == "127.0.0.1"
    assert "X-Real-IP" not in request.headers
    assert served.token not in str(request.headers)


@pytest.mark.parametrize("code", [1000, 1001, 4321])
async def test_close_codes_both_ways(served: Served, code: int) -> None:
    ended: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def close(websocket: ServerConnection) -> None:
        if await websocket.recv() == "you":
            await websocket.close(code, "enough")
            return
        try:
            await websocket.recv()
        except ConnectionClosed:
            ended.put_nowait((websocket.close_code, websocket.close_reason))

    async with serve_websockets(close, INSIDE, 0) as inside, asyncio.timeout(20):
        port = inside.sockets[0].getsockname()[1]
        async with dial(served, port) as websocket:
            await websocket.send("you")
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert (websocket.close_code, websocket.close_reason) == (code, "enough")
        async with dial(served, port) as websocket:
            await websocket.send("me")
            await websocket.close(code, "bye")
        assert await ended.get() == (code, "bye")


async def test_a_program_that_dies(served: Served) -> None:
    async def die(websocket: ServerConnection) -> None:
        await websocket.recv()
        websocket.transport.abort()

    async with (
        serve_websockets(die, INSIDE, 0) as inside,
        dial(served, inside.sockets[0].getsockname()[1]) as websocket,
    ):
        await websocket.send("now")
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1011


async def refusal(attempt: connect) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with attempt:
            pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


async def test_refusals_come_before_the_upgrade(served: Served) -> None:
    async with program(b"") as gone:
        pass
    assert (await refusal(dial(served, 8000, headers={"X-Thawbox-Token": ""})))[0] == 401
    status, body = await refusal(dial(served, gone.port))
    assert status == 502
    assert f"Nothing listens on port {gone.port}" in body
    said = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnot me"
    async with program(said) as inside:
        assert await refusal(dial(served, inside.port)) == (403, "not me")
    for nonsense in (
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 302 F\r\n",
    ):
        async with program(nonsense) as inside:
            assert (await refusal(dial(served, inside.port)))[0] == 502
    moved = b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with program(moved) as inside:
        assert (await refusal(dial(served, inside.port)))[0] in (302, 502)


async def test_a_browser_brings_a_cookie_or_the_token_in_the_address(served: Served) -> None:
    async with serve_websockets(echo, INSIDE, 0) as inside:
        port = inside.sockets[0].getsockname()[1]
        none = {"X-Thawbox-Token": ""}
        async with dial(served, port, f"/?token={served.token}", headers=none) as websocket:
            await websocket.send("in")
            assert await websocket.recv() == "in"
        log_in = await served.ask(port, f"/?token={served.token}", token=None)
        cookie = {**none, "Cookie": log_in.headers["Set-Cookie"].partition(";")[0]}
        async with dial(served, port, headers=cookie, origin=f"http://{served.host(port)}") as websocket:
            await websocket.send("in")
            assert await websocket.recv() == "in"
        evil = dial(served, port, headers=cookie, origin="https://evil.example")
        assert (await refusal(evil))[0] == 401


async def everything(websocket: ClientConnection) -> bytes:
    """The bytes until the other side has ended its own."""
    got = b""
    async for message in websocket:
        if isinstance(message, str):
            assert message == "end"
            break
        got += message
    return got


@pytest.mark.parametrize("host", [INSIDE, LOOPBACK])
async def test_raw_tcp(served: Served, host: str) -> None:
    async def shout(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.upper() + (await reader.read()).upper())  # after the client's end

    async with program(shout, host) as inside, tcp(served, inside.port) as websocket, asyncio.timeout(20):
        await websocket.send(b"one\r\n")
        await websocket.send(b"\r\ntwo" * 100_000)
        await websocket.send("end")
        assert await everything(websocket) == b"ONE\r\n" + b"\r\nTWO" * 100_000


async def test_raw_tcp_refused(served: Served) -> None:
    assert (await refusal(tcp(served, 1)))[0] == 502
    assert (await refusal(tcp(served, 7777)))[0] == 400
    assert (await refusal(tcp(served, 70000)))[0] == 400
    url = f"ws://127.0.0.1:{served.port}/tcp/1"
    assert (await refusal(connect(url, proxy=None)))[0] == 401


async def test_clients_that_leave_end_it_inside(served: Served) -> None:
    async def hang(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with program(hang) as inside, asyncio.timeout(20):
        websocket = await tcp(served, inside.port)
        await websocket.send(b"hello\r\n\r\n")
        websocket.transport.abort()
        await inside.closed.wait()


async def test_limits(gate: Gate) -> None:
    async with (
        serve(gate, port_connections=1) as served,
        serve_websockets(echo, INSIDE, 0) as inside,
        program(ok()) as other,
        dial(served, inside.sockets[0].getsockname()[1]),
    ):
        status, body = await refusal(tcp(served, other.port))
        assert (status, "in progress" in body) == (429, True)
        assert (await served.ask(other.port)).status_code == 429
