"""Requests to programs inside that no proper client sends; and that nothing is left behind by any."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateway import Gate
from tests.support.served import LOOPBACK, Served, dial, ok, program, serve

PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"GET / HTTP/2.0\r\n", b"\r\n", b"\n",
        b"\r",
        b"GET / \r\n", b"Host: x\r\n", b"@HOST", b"@HOST", b"@HOST", b"@TOKEN", b"@TOKEN", b"@TOKEN", b"@COOKIE",
        b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Connection: close\r\n", b"Connection: host, x-thawbox-token\r\n", b"Connection: content-length\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        b"Expect: 100-continue\r\n", b" folded\r\n", b"X\x00: y\r\n", b": empty\r\n", b"X: \xff\r\n",
        b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"FFFFFFFFFFFFFFFFF\r\n", b"5;ext=1\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n",
    ]
)  # fmt: skip


async def test_any_request_is_answered_in_one_way(gate: Gate) -> None:
    """A proper status or the end of the connection; the program sees whole requests and no token."""
    async with serve(gate) as served, program(ok(b"", "Connection: close")) as inside:
        loop = asyncio.get_running_loop()

        def try_one(pieces: list[bytes]) -> None:
            asyncio.run_coroutine_threadsafe(attempt(pieces), loop).result(20)

        async def attempt(pieces: list[bytes]) -> None:
            answer = await served.raw(_spelt(served, inside.port, pieces), end=True)
            for status in re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.MULTILINE):
                assert int(status) < 500 or int(status) == 502, answer[:300]
            for head in inside.heads:
                assert served.token.encode() not in head
                assert re.match(rb"[A-Z]+ /\S* HTTP/1\.1\r\n", head), head
                assert head.lower().count(b"\r\nhost:") == 1
            inside.heads.clear()

        @given(st.lists(PIECES, min_size=1, max_size=9))
        @settings(
            max_examples=150,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def search(pieces: list[bytes]) -> None:
            try_one(pieces)
            try_one([b"POST / HTTP/1.1\r\n", b"@HOST", b"@TOKEN", *pieces, b"\r\n"])

        await asyncio.to_thread(search)


def _spelt(served: Served, port: int, pieces: list[bytes]) -> bytes:
    meanings = {
        b"@HOST": f"Host: {served.host(port)}\r\n".encode(),
        b"@TOKEN": f"X-Thawbox-Token: {served.token}\r\n".encode(),
        b"@COOKIE": b"Cookie: thawbox-port=1.2; a=1\r\n",
    }
    return b"".join(meanings.get(piece, piece) for piece in pieces)


async def test_nothing_is_left_behind(gate: Gate) -> None:
    async def hang(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"pgrade" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst")
            await writer.drain()
        await reader.read()

    async def everything(served: Served, hanging: int, nonsense: int, local: int) -> None:
        await served.ask(1)
        await served.ask(nonsense)
        await served.ask(local)
        for port in (hanging, local):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await served.ask(port)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(0.1), dial(served, port):
                    pass
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            _spelt(
                served, hanging, [b"POST / HTTP/1.1\r\n", b"@HOST", b"@TOKEN", b"Content-Length: 9\r\n\r\n"]
            )
        )
        await writer.drain()
        writer.transport.abort()

    async with (
        serve(gate) as served,
        program(hang) as hanging,
        program(b"garbage\r\n\r\n") as nonsense,
        program(ok(), LOOPBACK) as local,
    ):
        ports = (hanging.port, nonsense.port, local.port)
        await everything(served, *ports)  # what is opened once and kept
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await everything(served, *ports)
        async with asyncio.timeout(10):
            while len(os.listdir("/proc/self/fd")) > before + 2 or len(asyncio.all_tasks()) > 30:
                await asyncio.sleep(0.02)
