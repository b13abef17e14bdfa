"""An agent that lies: it answers everything with the same bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from thawbox.agent import protocol
from thawbox.agent.protocol import encode_frame, encode_object
from thawbox.guest import Endpoint

SECRET = "0" * 64


@asynccontextmanager
async def lying_agent(answer: bytes, *, stays_open: bool = False) -> AsyncIterator[Endpoint]:
    """A guest that says ``answer`` to everything."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        try:
            await writer.drain()
            if stays_open:
                await over.wait()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], SECRET)
    finally:
        over.set()
        server.close()


STARTED = encode_object(protocol.STARTED, {"pid": 5})


NONSENSE = {
    "nothing": b"",
    "HTTP": b"HTTP/1.1 200 OK\r\n\r\n",
    "zeros": b"\0" * 1000,
    "half a header": b"\x10\0",
    "half a frame": encode_object(protocol.RESULT, {"pid": 1})[:-1],
    "a huge frame": b"\x10\xff\xff\xff\xff",
    "no JSON": encode_frame(protocol.RESULT, b"{"),
    "deep JSON": encode_frame(protocol.RESULT, b'{"a":' * 100_000),
    "a list": encode_frame(protocol.RESULT, b"[]"),
    "another frame": encode_frame(protocol.STDOUT, b"x"),
    "an error that is none": encode_object(protocol.ERROR, {"code": 5}),
    "more after the answer": encode_object(protocol.RESULT, {"ok": True}) + b"x",
}
