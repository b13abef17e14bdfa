"""Clients that are slow on purpose."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import Gate
from tests.support.served import serve
from thawbox.web import listener


async def until_closed(port: int, *pieces: bytes, pause: float = 0.0) -> float:
    """Seconds until the listener has closed a connection that sends ``pieces``, the last for ever."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def drip() -> None:
        for piece in pieces:
            writer.write(piece)
        while pause:
            await asyncio.sleep(pause)
            writer.write(pieces[-1])

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(15):
            while await reader.read(65536):
                pass
    except ConnectionResetError:
        pass
    finally:
        dripping.cancel()
        writer.close()
    return loop.time() - began


async def test_heads_and_bodies_have_an_end(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_S", 0.4)
    monkeypatch.setattr(listener, "BODY_S", 0.4)
    async with serve(gate) as served:
        post = f"POST /commands/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.token}\r\n"
        body = f"{post}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode()
        kept, keep = await asyncio.open_connection("127.0.0.1", served.port)
        await healthy(kept, keep)
        took = await asyncio.gather(
            until_closed(served.port),
            until_closed(served.port, b"GET / HT"),
            until_closed(served.port, b"GET / HTTP/1.1\r\n", b"X: y\r\n", pause=0.1),
            until_closed(served.port, body, b'{"'),
        )
        assert min(took) > 0.3, took
        # One that is used stays: it is older than all of those.
        await healthy(kept, keep)
        await until_closed(served.port)
        await healthy(kept, keep)
        keep.close()


async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"healthy" in await reader.readuntil(b"}")
