from __future__ import annotations

import time

import jwt
import pytest

from tests.support.gateway import Gate
from thawbox.guest import Endpoint
from thawbox.sandboxes.tokens import TokenSigner

PATHS = [
    ("GET", "/files/read?path=/etc/hostname", None),
    ("POST", "/files/write", {"path": "/tmp/x", "content": ""}),
    ("POST", "/commands/run", {"command": "true"}),
]


async def test_health_without_token_is_the_gateways(gate: Gate) -> None:
    body = (await gate.anonymous.get("/health")).json()
    assert body["status"] == "healthy"
    assert "vm_id" not in body


async def test_health_with_token_is_the_sandboxes_and_honest(gate: Gate) -> None:
    answer = await gate.client.get("/health")
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert (body["status"], body["vm_id"]) == ("healthy", gate.sandbox.id)
    assert body["features"]["file_operations"] is True
    assert body["features"]["desktop"] is False
    assert body["uptime_seconds"] >= 0
    paths = set((await gate.anonymous.get("/openapi.json")).json()["paths"])
    assert body["features"]["code_execution"] is ("/execute" in paths)
    assert body["features"]["background_jobs"] is ("/execute/background" in paths)
    assert {"python", "bash", "sh"} <= set(body["features"]["languages"])


async def test_agent_that_does_not_answer_is_503(gate: Gate) -> None:
    gate.sandboxes.address = Endpoint("127.0.0.1", 1, "0" * 64)
    for method, path, body in [("GET", "/health", None), *PATHS]:
        answer = await gate.client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize(("method", "path", "body"), PATHS)
async def test_without_token_there_is_nothing(gate: Gate, method: str, path: str, body: object) -> None:
    answer = await gate.anonymous.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "AUTHENTICATION_REQUIRED")


@pytest.mark.parametrize("path", ["/health", "/files/read?path=/etc/hostname"])
async def test_tokens_that_are_not_ours_are_401(gate: Gate, path: str) -> None:
    claims = {"sub": gate.sandbox.id, "org": 1, "iat": 0, "exp": int(time.time()) + 60, "aud": "hopx-agent"}
    forged = [
        "x",
        jwt.encode(claims, "k" * 32, algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        gate.token(created_at=time.time() - 90_000)["Authorization"].removeprefix("Bearer "),
    ]
    for token in forged:
        answer = await gate.anonymous.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token
        assert answer.json()["error"] == "Unauthorized"


async def test_expired_token_says_so_in_the_clients_words(gate: Gate) -> None:
    old = gate.token(created_at=time.time() - 90_000)
    answer = await gate.anonymous.get("/files/read?path=/x", headers=old)
    assert "token expired" in answer.json()["message"].lower()


@pytest.mark.parametrize("change", [{"aud": "other"}, {"exp": None}, {"sub": None}, {"org": None}])
async def test_token_with_other_claims_is_401(gate: Gate, change: dict[str, object]) -> None:
    signer = TokenSigner(b"k" * 32, 3600)
    gate.use(tokens=signer)
    whole = {"sub": gate.sandbox.id, "org": 1, "iat": 0, "exp": int(time.time()) + 60, "aud": "hopx-agent"}
    claims = {name: value for name, value in (whole | change).items() if value is not None}
    for given, status in ((whole, 200), (claims, 401)):
        token = jwt.encode(given, b"k" * 32, algorithm="HS256")
        answer = await gate.anonymous.get("/health", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status


async def test_token_of_a_sandbox_that_is_gone_is_404(gate: Gate) -> None:
    await gate.change(expires_at=time.time() - 1)
    for method, path, body in PATHS:
        answer = await gate.client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["message"]) == (404, "Sandbox not found")
    await gate.sandboxes.delete(gate.sandbox)
    assert (await gate.client.get("/health")).status_code == 404


async def test_paused_sandbox_is_503(gate: Gate) -> None:
    await gate.change(status="paused")
    assert (await gate.client.post("/commands/run", json={"command": "true"})).status_code == 503


async def test_errors_have_time_id_and_limits(gate: Gate) -> None:
    for method, path, code in [
        ("GET", "/nothing", "RESOURCE_NOT_FOUND"),
        ("GET", "/commands/run", "METHOD_NOT_ALLOWED"),
    ]:
        answer = await gate.client.request(method, path)
        body = answer.json()
        assert body["code"] == code
        assert body["timestamp"].endswith("Z")
        assert body["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["x-ratelimit-limit"].isdigit()
