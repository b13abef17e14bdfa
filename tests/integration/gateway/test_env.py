from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.gateway import Gate


@pytest.fixture(autouse=True)
async def clean(gate: Gate) -> AsyncIterator[None]:
    yield
    assert (await gate.client.delete("/env")).status_code == 200


async def env(gate: Gate, method: str = "GET", path: str = "/env", **variables: str) -> dict[str, str]:
    body = None if method in ("GET", "DELETE") else {"env_vars": variables}
    answer = await gate.client.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["count"] == len(said["env_vars"])
    assert said["timestamp"].endswith("Z")
    found: dict[str, str] = said["env_vars"]
    return found


async def seen(gate: Gate, line: str, **body: Any) -> str:
    answer = await gate.client.post("/commands/run", json={"command": line, **body})
    text: str = answer.json()["stdout"]
    return text.strip()


async def test_a_fresh_sandbox_has_what_programs_need(gate: Gate) -> None:
    assert {"PATH", "HOME", "USER", "LANG"} <= set(await env(gate))


async def test_merge_replace_and_clear(gate: Gate) -> None:
    before = await env(gate)
    assert await env(gate, "PATCH", A="1", SECRET_TOKEN="s3cret") == {
        **before,
        "A": "1",
        "SECRET_TOKEN": "s3cret",
    }
    assert await env(gate, "PATCH", B="2") == {**before, "A": "1", "SECRET_TOKEN": "s3cret", "B": "2"}
    assert await seen(gate, "echo $A$B$SECRET_TOKEN") == "12s3cret"
    assert await seen(gate, "echo $A$B", env={"A": "x"}) == "x2"
    assert await env(gate, "PUT", C="3") == {**before, "C": "3"}
    assert await seen(gate, "echo $A$B$C") == "3"
    assert await env(gate, "DELETE") == before


async def test_a_client_that_deletes_by_writing_all_others_back(gate: Gate) -> None:
    before = await env(gate)
    everything = await env(gate, "PATCH", A="1", B="2")
    del everything["A"]
    assert await env(gate, "PUT", **everything) == {**before, "B": "2"}
    assert await env(gate, "DELETE", "/env/B") == before


async def test_a_variable_that_programs_need_can_be_covered_not_lost(gate: Gate) -> None:
    before = await env(gate)
    assert (await env(gate, "PATCH", PATH="/mine:/usr/bin:/bin"))["PATH"] == "/mine:/usr/bin:/bin"
    assert await seen(gate, "echo $PATH") == "/mine:/usr/bin:/bin"
    assert await env(gate, "DELETE", "/env/PATH") == before
    for name in ("PATH", "NOT_THERE"):
        answer = await gate.client.delete(f"/env/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_FOUND")


async def test_background_jobs_see_it(gate: Gate) -> None:
    await env(gate, "PATCH", A="of the sandbox")
    await gate.client.post("/commands/background", json={"command": f"echo $A > {gate.folder}/seen"})
    assert await seen(gate, "until [ -s seen ]; do sleep 0.01; done; cat seen") == "of the sandbox"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"env_vars": []},
        {"env_vars": {"A": 1}},
        {"env_vars": {"": "x"}},
        {"env_vars": {"A=B": "x"}},
        {"env_vars": {"A": "\x00"}},
        {"env_vars": {"A": "x" * 70_000}},
    ],
)
async def test_bad_variables_are_400_and_change_nothing(gate: Gate, body: dict[str, Any]) -> None:
    before = await env(gate)
    for method in ("PUT", "PATCH"):
        answer = await gate.client.request(method, "/env", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert await env(gate) == before
