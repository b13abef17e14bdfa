"""Keys, request ids, limits, errors: what holds for every path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.control_plane import World, make_world
from thawbox.settings import load
from thawbox.store import keys


async def test_health_needs_no_key(world: World) -> None:
    answer = await world.nobody.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


@pytest.mark.parametrize(
    "path", ["/v1/templates", "/v1/sandboxes", "/v1/nothing", "/v1/account/limits", "/metrics"]
)
async def test_without_key_there_is_nothing(world: World, path: str) -> None:
    answer = await world.nobody.get(path)
    body = answer.json()
    assert answer.status_code == 401
    assert (body["error"], body["message"]) == ("Unauthorized", "Invalid API key")
    assert body["code"] == "AUTHENTICATION_REQUIRED"
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("style", ["X-API-Key", "Bearer", "bearer"])
async def test_key_works_in_both_headers_until_it_is_revoked(world: World, style: str) -> None:
    headers = {"X-API-Key": world.key} if style == "X-API-Key" else {"Authorization": f"{style} {world.key}"}
    assert (await world.nobody.get("/v1/templates", headers=headers)).status_code == 200
    key_id = world.key.removeprefix("hopx_live_").partition(".")[0]
    async with world.context.database.write() as c:
        assert await keys.revoke(c, key_id)
    answer = await world.nobody.get("/v1/templates", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_API_KEY")


async def test_changed_keys_are_refused_before_the_body_is_looked_at(world: World) -> None:
    changed = world.key[:-1] + ("a" if world.key[-1] != "a" else "b")
    for key in (changed, world.key.replace("live", "test"), "x", "hopx_live_.", "\x7f", world.key + " x"):
        answer = await world.nobody.post("/v1/templates/build", content=b"{", headers={"X-API-Key": key})
        assert answer.status_code == 401


async def test_every_answer_has_an_id_and_the_limits(world: World) -> None:
    for client, method, path in [
        (world.api, "GET", "/v1/templates"),
        (world.nobody, "GET", "/health"),
        (world.nobody, "GET", "/nothing"),
        (world.nobody, "GET", "/v1/templates"),
        (world.api, "PATCH", "/v1/templates"),
        (world.api, "POST", "/v1/sandboxes"),
    ]:
        answer = await client.request(method, path)
        assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        for name in ("limit", "remaining", "reset"):
            assert answer.headers[f"x-ratelimit-{name}"].isdigit()


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("req_from.a-client", True),
        ("short", False),
        ("a" * 65, False),
        ("with space", False),
        ("x\ty" * 4, False),
    ],
)
async def test_clients_request_id_is_taken_if_it_is_harmless(world: World, offered: str, taken: bool) -> None:
    answer = await world.nobody.get("/health", headers={"X-Request-ID": offered})
    assert (answer.headers["x-request-id"] == offered) is taken


async def test_unknown_path_and_wrong_method_are_envelopes(world: World) -> None:
    missing = await world.api.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "RESOURCE_NOT_FOUND")
    wrong = await world.api.patch("/v1/templates")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in wrong.headers["allow"]
    for answer in (missing, wrong):
        assert {"error", "message", "code", "request_id"} == set(answer.json())


async def test_requests_per_minute_are_counted_per_organization(tmp_path: Path) -> None:
    world = await make_world(load(state=tmp_path, requests_per_minute=3))
    answers = [await world.api.get("/v1/templates") for _ in range(4)]
    assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["3"] * 4
    last = answers[-1]
    assert last.status_code == 429
    body = last.json()
    assert body["code"] == "RATE_LIMIT_EXCEEDED"
    assert 1 <= body["retry_after"] <= 60
    assert last.headers["retry-after"] == str(body["retry_after"])
    assert last.headers["x-ratelimit-remaining"] == "0"
    assert (await world.stranger.get("/v1/templates")).status_code == 200
    assert (await world.nobody.get("/health")).status_code == 200
    await world.context.database.close()


async def test_unexpected_fault_is_a_500_whose_id_is_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(world.builder, "submit", broken)
    with capture_logs() as lines:
        answer = await world.api.post(
            "/v1/templates/build", json={"name": "x", "from_image": "debian:12", "steps": []}
        )
    body = answer.json()
    assert answer.status_code == 500
    assert body["code"] == "INTERNAL_ERROR"
    assert "secret detail" not in answer.text
    faults = [line for line in lines if line.get("exc_info")]
    assert [type(line["exc_info"]) for line in faults] == [ZeroDivisionError]


async def test_limits_tell_what_is_allowed_and_used(world: World) -> None:
    await world.api.post("/v1/templates/build", json={"name": "x", "from_image": "debian:12", "steps": []})
    await world.sandbox()
    body = (await world.api.get("/v1/account/limits")).json()
    assert body["object"] == "account_limits"
    assert body["limits"]["template_builds_per_hour"] == 10
    assert body["limits"]["template_builds_per_day"] == 50
    assert body["limits"]["max_concurrent_sandboxes"] is None
    assert body["usage"] == {
        "concurrent_sandboxes": 1, "template_builds_last_hour": 1, "template_builds_last_day": 1,
    }  # fmt: skip


async def test_metrics_are_prometheus_text(world: World) -> None:
    await world.api.get("/v1/templates")
    text = (await world.api.get("/metrics")).text
    assert 'thawbox_request_duration_seconds_count{method="GET",plane="api",route="/v1/templates"' in text
