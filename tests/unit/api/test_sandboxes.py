from __future__ import annotations

import itertools
import time
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.support.control_plane import World, make_world
from thawbox.api import statuses
from thawbox.settings import load
from thawbox.store import sandboxes
from thawbox.store.enums import BootPath, SandboxStatus, TemplateStatus


async def test_created_sandbox_is_the_whole_object(world: World) -> None:
    template = await world.template("mine")
    answer = await world.api.post(
        "/v1/sandboxes",
        json={"template_id": template.id, "env_vars": {"A": "1"}, "timeout_seconds": 60, "vcpu": 8, "x": 1},
    )
    body = answer.json()
    assert answer.status_code == 201
    assert body["status"] == "running"
    assert body["template_id"] == str(template.id)
    assert body["organization_id"] == world.organization_id
    assert body["public_host"] == body["direct_url"] == "http://box.example:7777"
    assert body["resources"] == {"vcpu": 2, "memory_mb": 2048, "disk_mb": 10240}
    assert (body["internet_access"], body["live_mode"], body["timeout_seconds"]) == (True, True, 60)
    assert body["auth_token"].startswith("eyJ")
    assert world.context.tokens.check(body["auth_token"]).sandbox_id == body["id"]
    assert world.sandboxes.environments[body["id"]] == {"A": "1"}
    read = (await world.api.get(f"/v1/sandboxes/{body['id']}")).json()
    assert {**body, "request_id": ""} == {
        **read, "request_id": "", "auth_token": body["auth_token"], "token_expires_at": body["token_expires_at"],
    }  # fmt: skip


async def test_addresses_are_the_configured_ones(tmp_path: Path) -> None:
    world = await make_world(load(state=tmp_path, gateway_url="https://gate.example/"))
    assert (await world.sandbox())["public_host"] == "https://gate.example"
    await world.context.database.close()


async def test_hostile_host_header_does_not_get_into_addresses(world: World) -> None:
    await world.template("mine")
    answer = await world.api.post(
        "/v1/sandboxes", json={"template_name": "mine"}, headers={"host": 'evil"/@x y'}
    )
    assert answer.json()["public_host"] == "http://127.0.0.1:7777"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"template_id": ""},
        {"template_id": True},
        {"template_id": 1.5},
        {"template_id": ["1"]},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"timeout_seconds": "60"},
        {"timeout_seconds": 1.5},
        {"timeout_seconds": True},
        {"timeout_seconds": 99999999999999999999},
        {"internet_access": 1},
        {"internet_access": "yes"},
        {"env_vars": ["A=1"]},
        {"env_vars": {"A": 1}},
        {"env_vars": {"A": "a\x00b"}},
        {"env_vars": {"A=B": "1"}},
        {"env_vars": {"": "1"}},
    ],
)
async def test_bad_fields_are_a_400_with_a_sentence(world: World, body: dict[str, Any]) -> None:
    if body and "template_id" not in body:
        await world.template("mine")
        body = {"template_name": "mine", **body}
    answer = await world.api.post("/v1/sandboxes", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "INVALID_REQUEST"
    assert answer.json()["message"].endswith((".", "provided"))
    assert world.sandboxes.environments == {}


@pytest.mark.parametrize("reference", ["nothing", 99999999999999999999, -1, "\ud7ff\x00"])
async def test_unknown_template_is_404(world: World, reference: object) -> None:
    answer = await world.api.post("/v1/sandboxes", json={"template_id": reference})
    assert answer.status_code == 404
    assert answer.json()["error"] == "Template not found"


async def test_template_that_is_not_built_yet_is_409(world: World) -> None:
    await world.template("mine", ready=False)
    answer = await world.api.post("/v1/sandboxes", json={"template_name": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (409, "TEMPLATE_NOT_READY")


async def test_list_pages_newest_first_and_ends(world: World) -> None:
    created = [(await world.sandbox())["id"] for _ in range(5)]
    seen: list[object] = []
    cursor = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await world.api.get("/v1/sandboxes", params=query)).json()
        seen += [item["id"] for item in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        assert "auth_token" not in page["data"][0]
        if not page["has_more"]:
            break
    assert seen == sorted(created, reverse=True)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("query", "status", "count"),
    [
        ({"limit": "0"}, 200, 1),
        ({"limit": "-3"}, 200, 1),
        ({"limit": "99999999999999999999"}, 200, 2),
        ({"limit": "x"}, 400, 0),
        ({"status": "running"}, 200, 2),
        ({"status": "paused"}, 200, 0),
        ({"status": "nonsense"}, 400, 0),
        ({"cursor": "\x00"}, 400, 0),
        ({"cursor": "0"}, 400, 0),
        ({"cursor": "1.0-0"}, 200, 0),
        ({"region": "local"}, 200, 2),
        ({"region": "mars"}, 200, 0),
    ],
)
async def test_list_filters(world: World, query: dict[str, str], status: int, count: int) -> None:
    await world.sandbox()
    await world.sandbox()
    answer = await world.api.get("/v1/sandboxes", params=query)
    assert answer.status_code == status
    assert len(answer.json().get("data", [])) == count


async def test_sandboxes_of_others_are_not_found(world: World) -> None:
    sandbox = await world.sandbox()
    url = f"/v1/sandboxes/{sandbox['id']}"
    answers = [
        await world.stranger.get(url),
        await world.stranger.delete(url),
        await world.stranger.put(f"{url}/timeout", json={"timeout_seconds": 5}),
        await world.stranger.post(f"{url}/token/refresh"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["message"] for answer in answers} == {"Sandbox not found"}
    assert (await world.stranger.get("/v1/sandboxes")).json()["data"] == []
    assert (await world.api.get(url)).status_code == 200


async def test_delete_answers_json_and_the_second_is_404(world: World) -> None:
    sandbox = await world.sandbox()
    url = f"/v1/sandboxes/{sandbox['id']}"
    answer = await world.api.delete(url)
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "deleted", "id": sandbox["id"], "request_id": answer.headers["x-request-id"],
    }  # fmt: skip
    assert (await world.api.delete(url)).status_code == 404
    assert (await world.api.get(url)).status_code == 404


async def test_timeout_replaces_and_zero_removes(world: World) -> None:
    sandbox = await world.sandbox(timeout_seconds=3600)
    url = f"/v1/sandboxes/{sandbox['id']}"
    shorter = (await world.api.put(f"{url}/timeout", json={"timeout_seconds": 60})).json()
    assert set(shorter) == {"id", "timeout_seconds", "expires_at", "request_id"}
    assert shorter["timeout_seconds"] == 60
    assert shorter["expires_at"] < sandbox["expires_at"]
    assert (await world.api.get(url)).json()["expires_at"] == shorter["expires_at"]
    gone = (await world.api.put(f"{url}/timeout", json={"timeout_seconds": 0})).json()
    assert (gone["timeout_seconds"], gone["expires_at"]) == (None, None)


@pytest.mark.parametrize("value", [-1, 1.5, "60", True, None, 10**20])
async def test_timeout_that_is_no_lifetime_is_refused(world: World, value: object) -> None:
    sandbox = await world.sandbox()
    answer = await world.api.put(f"/v1/sandboxes/{sandbox['id']}/timeout", json={"timeout_seconds": value})
    assert answer.status_code == 400
    assert "timeout_seconds" in answer.json()["message"]


async def test_expired_sandbox_is_gone_and_cannot_be_renewed(world: World) -> None:
    sandbox = await world.sandbox(timeout_seconds=60)
    identity = str(sandbox["id"])
    async with world.context.database.write() as c:
        await sandboxes.update(c, identity, expires_at=time.time() - 1)
    assert (await world.api.get(f"/v1/sandboxes/{identity}")).status_code == 404
    assert (await world.api.get("/v1/sandboxes")).json()["data"] == []
    renewed = await world.api.put(f"/v1/sandboxes/{identity}/timeout", json={"timeout_seconds": 60})
    assert renewed.status_code == 404


async def test_refreshed_tokens_end_later_and_later(world: World) -> None:
    sandbox = await world.sandbox()
    ends = [datetime.fromisoformat(str(sandbox["token_expires_at"]))]
    for _ in range(5):
        answer = await world.api.post(f"/v1/sandboxes/{sandbox['id']}/token/refresh")
        body = answer.json()
        assert set(body) == {"id", "auth_token", "token_expires_at", "request_id"}
        assert len(body["token_expires_at"]) == len("2026-01-01T00:00:00.000000Z")
        ends.append(datetime.fromisoformat(body["token_expires_at"]))
    assert all(before < after for before, after in itertools.pairwise(ends))
    assert world.context.tokens.check(str(sandbox["auth_token"])).sandbox_id == sandbox["id"]


@pytest.mark.parametrize(("status", "refresh", "timeout"), [("stopped", 409, 200), ("error", 409, 409)])
async def test_states_that_forbid(world: World, status: str, refresh: int, timeout: int) -> None:
    sandbox = await world.sandbox()
    url = f"/v1/sandboxes/{sandbox['id']}"
    async with world.context.database.write() as c:
        await sandboxes.update(c, str(sandbox["id"]), status=SandboxStatus(status))
    assert (await world.api.post(f"{url}/token/refresh")).status_code == refresh
    assert (await world.api.put(f"{url}/timeout", json={"timeout_seconds": 9})).status_code == timeout
    assert (await world.api.delete(url)).status_code == 200


def test_models_and_filter_know_every_status() -> None:
    assert get_args(statuses.AnySandboxStatus) == tuple(SandboxStatus)
    assert get_args(statuses.StatusFilter) == tuple(SandboxStatus)
    assert get_args(statuses.AnyBootPath) == tuple(BootPath)
    assert get_args(statuses.AnyTemplateStatus) == tuple(TemplateStatus)


async def test_unknown_status_is_refused_with_the_words_that_there_are(world: World) -> None:
    answer = await world.api.get("/v1/sandboxes", params={"status": "asleep"})
    assert answer.status_code == 400
    assert answer.json()["message"] == (
        "Field 'status': Input should be 'creating', 'running', 'paused', 'stopped' or 'error'."
    )
