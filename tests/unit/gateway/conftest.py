from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from thawbox import ids
from thawbox.gateway.app import create_gateway
from thawbox.gateway.context import GatewayContext
from thawbox.guest.client import Endpoint
from thawbox.sandboxes.tokens import open_signer
from thawbox.settings import load
from thawbox.store import sandboxes
from thawbox.store.database import open_database
from thawbox.store.sandboxes import SandboxRow
from thawbox.testing import FakeSandboxes


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A real agent, on this machine instead of inside a sandbox."""
    root = tmp_path_factory.mktemp("root")
    secret = secrets.token_hex(32)
    with subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "thawbox.guest.agent",
                "--bind",
                "127.0.0.1",
                "--port",
                "0",
                "--print-port",
            ),
            *("--root", str(root)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(secret.encode() + b"\n")
        process.stdin.flush()
        yield Endpoint("127.0.0.1", int(process.stdout.readline()), secret)
        process.kill()


@dataclass
class Gate:
    """A gateway with one sandbox; ``client`` has its token."""

    context: GatewayContext
    sandbox: SandboxRow
    sandboxes: FakeSandboxes
    client: httpx.AsyncClient
    anonymous: httpx.AsyncClient
    folder: Path
    """Where the sandbox's files may be written."""

    async def change(self, **fields: object) -> None:
        async with self.context.database.write() as c:
            await sandboxes.update(c, self.sandbox.id, **fields)

    def token(self, **fields: object) -> dict[str, str]:
        signed = self.context.tokens.first(replace(self.sandbox, **fields))  # type: ignore[arg-type]
        return {"Authorization": f"Bearer {signed.text}"}


@pytest.fixture
async def gate(tmp_path: Path, agent: Endpoint) -> AsyncIterator[Gate]:
    settings = load(state=tmp_path / "state")
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
        status="running",
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
    context = GatewayContext(settings, database, fakes, open_signer(settings))
    transport = httpx.ASGITransport(app=create_gateway(context), raise_app_exceptions=False)
    made = Gate(
        context,
        row,
        fakes,
        httpx.AsyncClient(transport=transport, base_url="http://gate"),
        httpx.AsyncClient(transport=transport, base_url="http://gate"),
        folder,
    )
    made.client.headers.update(made.token())
    yield made
    await database.close()
