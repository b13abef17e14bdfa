"""The gateway's OpenAPI document against the gateway: generated requests, good and bad, for every operation.

The agent behind it is a script: what is generated must not be done on this machine.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from thawbox import ids
from thawbox.agent import protocol
from thawbox.agent.protocol import encode_frame, encode_object
from thawbox.gateway.app import create_gateway
from thawbox.guest import Endpoint
from thawbox.sandboxes.serving import ServingContext
from thawbox.sandboxes.tokens import open_signer
from thawbox.settings import load
from thawbox.store import sandboxes
from thawbox.store.database import open_database
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.testing.services import FakeSandboxes

DOCUMENT = create_gateway(ServingContext(load(), *[cast(Any, None)] * 3)).openapi()
OPERATIONS = {
    operation.label: operation
    for operation in (
        cast(Any, found).ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    )
}
CHECKS: list[Callable[..., Any]] = [
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]
REFUSALS = (
    "NOT_FOUND", "INVALID", "DENIED", "NO_CWD", "EXISTS", "NO_SPACE", "NO_JOB", "NO_PROCESS", "UNKNOWN_USER",
    "NOT_REGULAR", "NOT_A_DIRECTORY", "IS_A_DIRECTORY", "TOO_MANY", "UNHEARD_OF",
)  # fmt: skip


async def scripted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Runs every command to its end; refuses all else, each request in a way of its own."""
    line = await reader.readline()
    op = json.loads(line)["op"]
    if op == "ping":
        answer = encode_object(protocol.RESULT, {"pid": 1, "uptime": 1.0, "time": time.time()})
    elif op == "spawn":
        answer = encode_object(protocol.STARTED, {"pid": 5}) + encode_frame(protocol.STDOUT, b"out\xff")
        ended: dict[str, object] = {
            "code": 1,
            "signal": None,
            "timed_out": False,
            "truncated": False,
            "seconds": 0.1,
        }
        answer += encode_object(protocol.EXIT, ended)
    else:
        code = REFUSALS[zlib.crc32(line) % len(REFUSALS)]
        answer = encode_object(protocol.ERROR, {"code": code, "message": "as scripted"})
    writer.write(answer)
    writer.write_eof()
    await reader.read()
    writer.close()


@dataclass
class Served:
    """A gateway and the loop that it lives in; hypothesis calls from outside of any loop."""

    client: httpx.AsyncClient
    loop: asyncio.Runner

    def send(self, case: Any) -> httpx.Response:
        arguments = case.as_transport_kwargs(base_url="http://gate")
        headers = {
            name: value for name, value in arguments["headers"].items() if name.lower() != "authorization"
        }
        body = {
            "content" if name == "data" else name: value
            for name, value in arguments.items()
            if name in ("data", "json", "params", "cookies", "files") and value is not None
        }
        request = self.client.build_request(arguments["method"], arguments["url"], headers=headers, **body)
        return self.loop.run(self.client.send(request))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with asyncio.Runner() as loop:
        state = tmp_path_factory.mktemp("state")
        client, close = loop.run(_open(state))
        yield Served(client, loop)
        loop.run(close())


async def _open(state: Path) -> tuple[httpx.AsyncClient, Callable[[], Any]]:
    server = await asyncio.start_server(scripted, "127.0.0.1", 0)
    agent = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], secrets.token_hex(32))
    chosen = load(state=state)
    database = await open_database(chosen)
    row = SandboxRow(
        id=ids.sandbox_id(), organization_id=1, template_id=1, template_name="t", snapshot_key="k",
        status=SandboxStatus.RUNNING,
        cpu=1, memory_mb=512, disk_gb=1, internet_access=True, live=True, secret=agent.secret,
        created_at=time.time(),
    )  # fmt: skip
    async with database.write() as c:
        await sandboxes.insert(c, row)
    signer = open_signer(chosen)
    app = create_gateway(ServingContext(chosen, database, FakeSandboxes(database, address=agent), signer))
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://gate",
        headers={"Authorization": f"Bearer {signer.first(row).text}"},
    )

    async def close() -> None:
        await client.aclose()
        server.close()
        await database.close()

    return client, close


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_does_as_documented(label: str, mode: GenerationMode, served: Served) -> None:
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=10,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def obeys(case: Any) -> None:
        answer = served.send(case)
        # 503: the script refuses what no agent of ours would, and that is nobody's fault but the guest's.
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        response = schemathesis.Response.from_any(answer)
        case.validate_response(response, checks=CHECKS)

    try:
        obeys()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE
        pytest.skip("it has nothing that could be wrong")


def test_document_says_how_to_log_in_and_what_can_go_wrong() -> None:
    assert DOCUMENT["paths"]["/health"]["get"]["security"] == []
    run = DOCUMENT["paths"]["/commands/run"]["post"]
    assert run["security"] == [{"Token": []}]
    assert "command" in run["requestBody"]["content"]["application/json"]["schema"]["properties"]
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            assert {"400", "401", "404", "429", "503"} <= set(operation["responses"])
            assert "422" not in operation["responses"]
            assert operation["description"]
