"""Pause, resume, stop, start, fork and snapshot over HTTP: shapes, refusals, whose sandbox it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.control_plane import World
from thawbox.guest import Endpoint
from thawbox.store import sandboxes
from thawbox.store.enums import SandboxStatus

VERBS = ("pause", "resume", "stop", "start")


async def post(
    world: World, sandbox: dict[str, Any], verb: str, expected: int, **body: Any
) -> dict[str, Any]:
    answer = await world.api.post(f"/v1/sandboxes/{sandbox['id']}/{verb}", json=body or None)
    assert answer.status_code == expected, answer.text
    found: dict[str, Any] = answer.json()
    assert found["request_id"] == answer.headers["X-Request-ID"]
    return found


async def test_state_changes_answer_with_the_state_and_the_same_address(world: World) -> None:
    sandbox = await world.sandbox()
    for verb, status in (
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "running"),
        ("stop", "stopped"),
        ("start", "running"),
        ("start", "running"),
    ):
        answer = await post(world, sandbox, verb, 200)
        assert answer.keys() == {"id", "status", "public_host", "request_id"}
        assert (answer["id"], answer["status"]) == (sandbox["id"], status)
        assert answer["public_host"] == sandbox["public_host"]
        record = (await world.api.get(f"/v1/sandboxes/{sandbox['id']}")).json()
        assert (record["status"], record["error_message"]) == (status, None)


@pytest.mark.parametrize("verb", VERBS)
async def test_an_empty_body_that_calls_itself_json(world: World, verb: str) -> None:
    sandbox = await world.sandbox()
    before = {"resume": "paused", "start": "stopped"}.get(verb, "running")
    async with world.context.database.write() as c:
        await sandboxes.update(c, str(sandbox["id"]), status=SandboxStatus(before))
    answer = await world.api.post(
        f"/v1/sandboxes/{sandbox['id']}/{verb}", content=b"", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("verb", [*VERBS, "fork", "snapshot"])
async def test_of_strangers_and_unknown_ones_nothing_is_told(world: World, verb: str) -> None:
    sandbox = await world.sandbox()
    body = {"name": "x"} if verb == "snapshot" else None
    for client, number in ((world.stranger, sandbox["id"]), (world.api, "0" * 21)):
        answer = await client.post(f"/v1/sandboxes/{number}/{verb}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_FOUND")


async def test_error_is_explained_and_cannot_be_changed(world: World) -> None:
    sandbox = await world.sandbox()
    async with world.context.database.write() as c:
        await sandboxes.update(
            c, str(sandbox["id"]), status=SandboxStatus.ERROR, reason="out of memory: too much"
        )
    record = (await world.api.get(f"/v1/sandboxes/{sandbox['id']}")).json()
    assert (record["status"], record["error_message"]) == ("error", "out of memory: too much")
    for verb in VERBS:
        answer = await post(world, sandbox, verb, 409)
        assert answer["code"] == "INVALID_STATE"
        assert "out of memory" in answer["message"]


async def test_fork(world: World) -> None:
    sandbox = await world.sandbox(env_vars={"A": "1"})
    answer = await post(world, sandbox, "fork", 201, count=2, timeout_seconds=60, env_vars={"B": "2"})
    assert answer["object"] == "list"
    for copy in answer["data"]:
        assert copy.keys() == sandbox.keys() - {"request_id"}
        assert (copy["status"], copy["timeout_seconds"]) == ("running", 60)
        assert world.context.tokens.check(copy["auth_token"]).sandbox_id == copy["id"]
        assert world.sandboxes.environments[copy["id"]] == {"A": "1", "B": "2"}
    assert len((await post(world, sandbox, "fork", 201))["data"]) == 1  # without a body
    for wrong in ({"count": 0}, {"count": 17}, {"timeout_seconds": 0}, {"env_vars": {"A=B": "c"}}):
        assert (await post(world, sandbox, "fork", 400, **wrong))["code"] == "INVALID_REQUEST"


async def test_snapshot(world: World) -> None:
    sandbox = await world.sandbox()
    made = await post(world, sandbox, "snapshot", 201, name="kept", description="d")
    assert (made["object"], made["name"], made["description"]) == ("template", "kept", "d")
    assert made["is_active"]
    assert (await post(world, sandbox, "snapshot", 409, name="kept"))["code"] == "ALREADY_EXISTS"
    for name in ("", "stream", "12", "with space", "-x"):
        assert (await post(world, sandbox, "snapshot", 400, name=name))["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "path", ["/v1/sandboxes/events/stream", "/v1/sandboxes/stream", "/v1/templates/stream"]
)
async def test_streams_end_when_the_server_does(world: World, path: str) -> None:
    world.context.events.close()
    answer = await world.api.get(path)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.text == ": listening\n\n"


async def test_metrics_of_one_that_does_not_run_are_refused(world: World) -> None:
    sandbox = await world.sandbox()
    world.sandboxes.address = Endpoint("127.0.0.1", 1, "0" * 64)
    await post(world, sandbox, "pause", 200)
    answer = await world.api.get(f"/v1/sandboxes/{sandbox['id']}/metrics/stream")
    assert (answer.status_code, answer.json()["code"]) == (503, "SANDBOX_PAUSED")
    await post(world, sandbox, "stop", 200)
    answer = await world.api.get(f"/v1/sandboxes/{sandbox['id']}/metrics/stream")
    assert (answer.status_code, answer.json()["code"]) == (409, "SANDBOX_STOPPED")
