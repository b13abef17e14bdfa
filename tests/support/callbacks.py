"""A program that receives callbacks, and a gateway that may call it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import thawbox.agent
from thawbox.gateway.run import callback_delivery, languages
from thawbox.sandboxes.serving import ServingContext
from thawbox.store import callbacks as rows
from thawbox.store.callbacks import CallbackRow

from .gateway import Gate


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "RUNNER", str(Path(thawbox.agent.__file__).parent / "python" / "run.py"))
    monkeypatch.setattr(callback_delivery, "TICK_S", 0.02)
    monkeypatch.setattr(callback_delivery, "DELAYS_S", (0.01,) * 5)


@dataclass
class Receiver:
    """Takes calls, and answers them with ``statuses`` in turn, the last one for ever."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        self.calls.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        location = "Location: /elsewhere\r\n" if status == 302 else ""
        writer.write(
            f"HTTP/1.1 {status} x\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()
        self.called.set()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=1"
    yield made
    server.close()


def permitting(gate: Gate) -> ServingContext:
    """The gateway's context, with loopback allowed."""
    return gate.use(callback_allow=("127.0.0.0/8",))


@pytest.fixture
async def permissive(gate: Gate) -> AsyncIterator[Gate]:
    """The gateway with loopback allowed, and its worker."""
    context = permitting(gate)
    async with callback_delivery.delivering(context):
        yield gate


async def execute(gate: Gate, source: str, url: str, **body: Any) -> dict[str, Any]:
    answer = await gate.client.post("/execute/async", json={"code": source, "callback_url": url, **body})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def owed(gate: Gate) -> list[CallbackRow]:
    async with gate.context.database.read() as connection:
        return await rows.due(connection, time.time() + 1e6, 100)


async def until_nothing_is_owed(gate: Gate) -> None:
    async with asyncio.timeout(20):
        while await owed(gate):
            await asyncio.sleep(0.02)
