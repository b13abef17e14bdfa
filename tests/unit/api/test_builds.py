from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.control_plane import World
from thawbox.builder.log import BuildLog
from thawbox.store import builds

SEED = {
    "alias": "my-python-template",
    "cpu": 2,
    "memory": 2048,
    "diskGB": 10,
    "steps": [
        {"type": "from", "image": "ubuntu:22.04"},
        {"type": "apt", "packages": ["python3", "python3-pip", "curl"]},
        {"type": "run", "command": "pip3 install numpy pandas"},
    ],
}


async def submit(world: World, **changes: Any) -> str:
    answer = await world.api.post("/v1/templates/build", json=SEED | changes)
    assert answer.status_code == 202, answer.text
    build_id: str = answer.json()["build_id"]
    return build_id


async def log_of(world: World, build_id: str) -> BuildLog:
    async with world.context.database.read() as c:
        build = await builds.newest(c, int(build_id))
    assert build is not None
    return BuildLog.open(world.builder.log_path(build))


async def test_accepted_build_has_exactly_the_published_keys(world: World) -> None:
    answer = await world.api.post("/v1/templates/build", json=SEED)
    body = answer.json()
    number = body["build_id"]
    assert answer.status_code == 202
    assert body == {
        "build_id": number,
        "template_id": number,
        "status": "building",
        "logs_url": f"/v1/templates/build/{number}/logs",
        "request_id": answer.headers["x-request-id"],
    }
    assert world.builder.submitted[0].base_image == "ubuntu:22.04"


async def test_alias_that_exists_is_the_published_conflict(world: World) -> None:
    await submit(world)
    answer = await world.api.post("/v1/templates/build", json=SEED)
    assert answer.status_code == 409
    assert answer.json()["error"] == "Template alias already exists"
    assert answer.json()["message"] == "A template with alias 'my-python-template' already exists"


async def test_recipe_without_base_image_is_the_published_400(world: World) -> None:
    answer = await world.api.post("/v1/templates/build", json=SEED | {"steps": SEED["steps"][1:]})  # type: ignore[index]
    assert answer.status_code == 400
    assert answer.json()["error"] == "Invalid template definition"
    assert answer.json()["message"] == "Template must start with a FROM step"


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"{}", "text/plain", "application/json"),
        (b"{}", "", "Content-Type is missing"),
        (b"{", "application/json", "not valid JSON"),
        (b'{"alias": "\xff"}', "application/json", "UTF-8"),
        (b"[]", "application/json", "object"),
        (b"null", "application/json", "object"),
        (b'{"alias": NaN}', "application/json", "JSON"),
        (b'{"cpu": ' + b"9" * 5000 + b"}", "application/json", "too many digits"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", "nested"),
        (b'{"alias": "\\ud800"}', "application/json", "surrogate"),
        (b'{"alias": "a\\u0000b"}', "application/json", ""),
        (b" " * (16 * 1024 * 1024 + 1), "application/json", "larger than"),
    ],
)
async def test_body_that_is_no_json_object_is_refused(
    world: World, content: bytes, kind: str, words: str
) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = await world.api.post("/v1/templates/build", content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["message"]
    assert world.builder.submitted == []


async def test_status_has_exactly_the_keys_that_clients_take(world: World) -> None:
    build_id = await submit(world)
    waiting = (await world.api.get(f"/v1/templates/build/{build_id}/status")).json()
    assert set(waiting) == {
        "build_id", "template_id", "status", "progress", "current_step", "started_at", "completed_at",
        "error_message", "build_duration_ms", "request_id",
    }  # fmt: skip
    assert (waiting["status"], waiting["progress"], waiting["completed_at"]) == ("building", 0, None)
    assert waiting["started_at"].endswith("Z")
    await world.builder.finish(int(build_id), "step 2: exit status 1")
    failed = (await world.api.get(f"/v1/templates/build/{build_id}/status")).json()
    assert (failed["status"], failed["error_message"]) == ("failed", "step 2: exit status 1")
    assert failed["build_duration_ms"] > 0
    template = (await world.api.get(f"/v1/templates/{build_id}")).json()
    assert (template["status"], template["is_active"]) == ("failed", False)
    assert template["error_message"] == "step 2: exit status 1"


async def test_builds_of_others_and_of_nobody_are_not_found(world: World) -> None:
    build_id = await submit(world)
    for client, path in [
        (world.stranger, build_id),
        (world.api, "99999999999999999999"),
        (world.api, "0"),
        (world.api, "x"),
        (world.api, "-1"),
    ]:
        for what in ("status", "logs"):
            answer = await client.get(f"/v1/templates/build/{path}/{what}")
            assert answer.status_code == 404
            assert answer.json()["error"] == "Build not found"


async def test_log_is_read_in_pieces_by_offset(world: World) -> None:
    build_id = await submit(world)
    url = f"/v1/templates/build/{build_id}/logs"
    empty = (await world.api.get(url)).json()
    assert (empty["logs"], empty["offset"], empty["complete"]) == ("", 0, False)
    with await log_of(world, build_id) as log:
        log.write("INFO", "step 1 of 2 ✓")
        first = (await world.api.get(url, params={"offset": "0"})).json()
        assert first["logs"] == "step 1 of 2 ✓\n"
        assert first["offset"] == len(first["logs"])
        log.write("ERROR", "boom")
    await world.builder.finish(int(build_id), "boom")
    rest = (await world.api.get(url, params={"offset": first["offset"]})).json()
    assert (rest["logs"], rest["status"], rest["complete"]) == ("boom\n", "failed", True)
    beyond = (await world.api.get(url, params={"offset": "1000"})).json()
    assert (beyond["logs"], beyond["offset"]) == ("", 1000)


@pytest.mark.parametrize("offset", ["-5", "abc", "", "1e3", "9" * 40])
async def test_offset_that_is_no_number_counts_as_zero(world: World, offset: str) -> None:
    build_id = await submit(world)
    with await log_of(world, build_id) as log:
        log.write("INFO", "hello")
    answer = await world.api.get(f"/v1/templates/build/{build_id}/logs", params={"offset": offset})
    assert answer.json()["logs"] == "hello\n"


async def test_log_as_events_ends_with_the_build(world: World) -> None:
    build_id = await submit(world)
    log = await log_of(world, build_id)
    log.write("INFO", "one")

    async def end() -> None:
        log.write("WARN", "two")
        log.close()
        await world.builder.finish(int(build_id))

    ending = asyncio.create_task(end())
    answer = await world.api.get(
        f"/v1/templates/build/{build_id}/logs", headers={"accept": "text/event-stream"}
    )
    await ending
    assert answer.headers["content-type"].startswith("text/event-stream")
    comment, *rest = answer.text.strip().split("\n\n")
    assert comment.startswith(":")
    blocks = [block.split("\n") for block in rest]
    events = [(lines[0], json.loads(lines[1].removeprefix("data: "))) for lines in blocks]
    assert [(name, data.get("level"), data.get("message")) for name, data in events[:-1]] == [
        ("event: log", "INFO", "one"),
        ("event: log", "WARN", "two"),
    ]
    assert events[-1] == ("event: done", {"status": "active"})


async def test_deleting_a_template_cancels_its_build(world: World) -> None:
    build_id = await submit(world)
    answer = await world.api.delete("/v1/templates/my-python-template")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "deleted", "id": build_id, "request_id": answer.headers["x-request-id"],
    }  # fmt: skip
    assert (await world.api.get(f"/v1/templates/{build_id}")).status_code == 404
    status = (await world.api.get(f"/v1/templates/build/{build_id}/status")).json()
    assert (status["status"], status["error_message"]) == ("failed", "cancelled")
