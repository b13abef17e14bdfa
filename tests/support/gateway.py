from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from tests.support.agent import run_agent
from thawbox import ids
from thawbox.gateway.app import create_gateway
from thawbox.guest import Endpoint
from thawbox.sandboxes.serving import ServingContext
from thawbox.sandboxes.tokens import TokenSigner, open_signer
from thawbox.store import sandboxes
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.testing.services import FakeSandboxes
from thawbox.web.listener import listener

from . import documented
from .database import open_database
from .settings import settings as default_settings


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A real agent, on this machine instead of inside a sandbox.

    Its address is not 127.0.0.1, so that programs that listen there stand for those that listen on loopback alone.
    """
    root = tmp_path_factory.mktemp("agent") / "root"
    passwd, group = (Path(f"/etc/{name}").read_text() for name in ("passwd", "group"))
    for running in run_agent(
        root, tmp_path_factory.getbasetemp(), address="127.0.0.2", passwd=passwd, group=group
    ):
        yield running.endpoint


@dataclass
class Gate:
    """A gateway with one sandbox; ``client`` has its token."""

    context: ServingContext
    sandbox: SandboxRow
    sandboxes: FakeSandboxes
    client: httpx.AsyncClient
    anonymous: httpx.AsyncClient
    folder: Path
    """Where the sandbox's files may be written."""
    app: FastAPI

    def use(self, *, tokens: TokenSigner | None = None, **settings: object) -> ServingContext:
        """Let the gateway go on with other settings or another signer; returns its new context."""
        changed = self.context.settings.model_copy(update=settings)
        context = replace(self.context, settings=changed, tokens=tokens or self.context.tokens)
        self.app.state.context = context
        return context

    async def change(self, **fields: object) -> None:
        async with self.context.database.write() as c:
            await sandboxes.update(c, self.sandbox.id, **fields)  # type: ignore[arg-type]

    def token(self, **fields: object) -> dict[str, str]:
        signed = self.context.tokens.first(replace(self.sandbox, **fields))  # type: ignore[arg-type]
        return {"Authorization": f"Bearer {signed.text}"}


@pytest.fixture
async def gate(tmp_path: Path, agent: Endpoint) -> AsyncIterator[Gate]:
    settings = default_settings(tmp_path / "state")
    database = await open_database(settings)
    folder = tmp_path / "inside"
    folder.mkdir()
    fakes = FakeSandboxes(database, address=agent, workdir=str(folder))
    row = SandboxRow(
        id=ids.sandbox_id(),
        organization_id=1,
        template_id=1,
        template_name="t",
        snapshot_key="k",
        status=SandboxStatus.RUNNING,
        cpu=1,
        memory_mb=512,
        disk_gb=1,
        internet_access=True,
        live=True,
        secret=agent.secret,
        created_at=time.time(),
    )
    async with database.write() as c:
        await sandboxes.insert(c, row)
    context = ServingContext(settings, database, fakes, open_signer(settings))
    app = create_gateway(context)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    hooks = {"response": [documented.check]}
    made = Gate(
        context,
        row,
        fakes,
        httpx.AsyncClient(transport=transport, base_url="http://gate", event_hooks=hooks),
        httpx.AsyncClient(transport=transport, base_url="http://gate", event_hooks=hooks),
        folder,
        app,
    )
    made.client.headers.update(made.token())
    yield made
    await database.close()


@dataclass
class Live:
    """The gateway on a real port, because WebSockets need one. ``app`` may be given more routes."""

    gate: Gate
    app: FastAPI
    url: str
    server: Any

    def connect(self, path: str, **options: Any) -> connect:
        """Connect with the sandbox's token: ``async with live.connect("/terminal") as socket``."""
        options.setdefault("additional_headers", self.gate.token())
        options.setdefault("proxy", None)
        return connect(self.url + path, **options)


async def frame(socket: ClientConnection) -> dict[str, Any]:
    """The next frame."""
    async with asyncio.timeout(20):
        value: dict[str, Any] = json.loads(await socket.recv())
    return value


async def frames(socket: ClientConnection) -> list[dict[str, Any]]:
    """Every frame until the server closes."""
    async with asyncio.timeout(20):
        return [json.loads(text) async for text in socket]


async def say(socket: ClientConnection, **fields: Any) -> None:
    """Send a frame."""
    await socket.send(json.dumps(fields))


@pytest.fixture
async def live(gate: Gate) -> AsyncIterator[Live]:
    app = create_gateway(gate.context)
    server = listener(gate.context.settings, app, 0)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Live(gate, app, f"ws://127.0.0.1:{port}", server)
    server.should_exit = True
    async with asyncio.timeout(5):
        await task
