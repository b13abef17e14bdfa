"""A gateway behind a real listener, and programs for it to reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import httpx
from websockets.asyncio.client import connect

from thawbox.gateway.app import create_gateway
from thawbox.sandboxes.serving import ServingContext
from thawbox.web.listener import listener

from .gateway import Gate

DOMAIN = "box.test"
INSIDE = "127.0.0.2"
"""What stands for a sandbox's own address."""
LOOPBACK = "127.0.0.1"


@dataclass
class Served:
    """The gateway of a ``Gate`` with a domain, at a port of its own."""

    gate: Gate
    context: ServingContext
    port: int
    http: httpx.AsyncClient

    @property
    def id(self) -> str:
        return self.gate.sandbox.id

    @property
    def token(self) -> str:
        return self.context.tokens.first(self.gate.sandbox).text

    def host(self, port: int, sandbox_id: str | None = None) -> str:
        """The program's host name."""
        return f"{port}-{sandbox_id or self.id}.{DOMAIN}"

    async def ask(
        self, port: int, path: str = "/", *, method: str = "GET", token: str | None = "", **extra: object
    ) -> httpx.Response:
        """A request for the program at ``port``, with the sandbox's token unless another or None is given."""
        headers = {"Host": self.host(port), **extra.pop("headers", {})}  # type: ignore[dict-item]
        if token is not None:
            headers["X-Thawbox-Token"] = token or self.token
        return await self.http.request(method, path, headers=headers, **extra)  # type: ignore[arg-type]

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes, and everything that comes back until the gateway closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        if end:
            writer.write_eof()
        try:
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serve(gate: Gate, **settings: object) -> AsyncIterator[Served]:
    """Serve ``gate``; ``settings`` on top of its own."""
    changed = gate.context.settings.model_copy(update={"domain": DOMAIN, "gateway_port": 0, **settings})
    context = replace(gate.context, settings=changed)
    server = listener(changed, create_gateway(context), 0)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
        assert not task.done()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            yield Served(gate, context, port, http)
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Program:
    """A program inside: keeps the heads that it saw, and answers as it was told."""

    port: int
    heads: list[bytes] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection of the gateway's has ended."""

    def header(self, name: str) -> list[str]:
        """The values of a header in the last request."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:]
        pairs = [line.split(":", 1) for line in lines if line]
        return [value.strip() for key, value in pairs if key.lower() == name.lower()]


@contextlib.asynccontextmanager
async def program(answer: Answer | bytes, host: str = INSIDE) -> AsyncIterator[Program]:
    """A program that answers every connection with ``answer``."""
    made = Program(0)

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            made.heads.append(head)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(head, reader, writer)
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(65536):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            made.closed.set()

    server = await asyncio.start_server(serve_one, host, 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def ok(body: bytes = b"fine", *headers: str) -> bytes:
    """A plain answer."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def dial(served: Served, port: int, path: str = "/", **extra: object) -> connect:
    """A WebSocket to the program's host name."""
    headers = {"X-Thawbox-Token": served.token, **extra.pop("headers", {})}  # type: ignore[dict-item]
    return connect(
        f"ws://{served.host(port)}{path}",
        host="127.0.0.1",
        port=served.port,
        additional_headers=headers,
        proxy=None,
        max_size=None,
        **extra,  # type: ignore[arg-type]
    )
