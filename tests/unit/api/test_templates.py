from __future__ import annotations

import pytest

from tests.support.control_plane import World
from thawbox.store import templates


async def test_list_has_public_and_own_templates_but_not_those_of_others(world: World) -> None:
    await world.template("code-interpreter", public=True)
    await world.template("mine")
    own = (await world.api.get("/v1/templates")).json()
    assert [(item["name"], item["is_public"], item["category"]) for item in own["data"]] == [
        ("code-interpreter", True, "python"),
        ("mine", False, "custom"),
    ]
    assert (own["object"], own["has_more"], own["url"]) == ("list", False, "/v1/templates")
    assert own["request_id"].startswith("req_")
    others = (await world.stranger.get("/v1/templates")).json()
    assert [item["name"] for item in others["data"]] == ["code-interpreter"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"category": "PYTHON"}, ["code-interpreter"]),
        ({"category": "pyth"}, []),
        ({"language": "Python"}, ["code-interpreter"]),
        ({"category": "custom"}, ["mine"]),
        ({"category": "python", "language": "go"}, []),
    ],
)
async def test_filters_match_whole_words_in_any_case(
    world: World, query: dict[str, str], names: list[str]
) -> None:
    await world.template("code-interpreter", public=True)
    await world.template("mine")
    found = (await world.api.get("/v1/templates", params=query)).json()["data"]
    assert [item["name"] for item in found] == names


async def test_template_by_name_and_by_id_is_the_same(world: World) -> None:
    row = await world.template("mine")
    by_name = (await world.api.get("/v1/templates/mine")).json()
    by_id = (await world.api.get(f"/v1/templates/{row.id}")).json()
    assert {**by_name, "request_id": ""} == {**by_id, "request_id": ""}
    seed_fields = {
        "id", "object", "name", "display_name", "description", "category", "language", "icon",
        "default_resources", "min_resources", "max_resources", "features", "tags", "popularity_score",
        "docs_url", "is_active", "status", "build_id", "is_public", "created_at", "updated_at", "request_id",
    }  # fmt: skip
    assert seed_fields <= set(by_id)
    assert by_id["default_resources"] == {"vcpu": 2, "memory_mb": 2048, "disk_gb": 10}
    assert by_id["organization_id"] == str(world.organization_id)
    assert by_id["language"] == ""
    assert by_id["features"] == []


async def test_own_template_hides_a_public_one_of_the_same_name(world: World) -> None:
    await world.template("python", public=True)
    mine = await world.template("python")
    assert (await world.api.get("/v1/templates/python")).json()["id"] == str(mine.id)
    assert (await world.stranger.get("/v1/templates/python")).json()["is_public"] is True


@pytest.mark.parametrize(
    "name", ["nothing", "99999999999999999999", "-1", "00", "%00", "%ED%A0%80", "a" * 5000]
)
async def test_unknown_template_is_the_published_404(world: World, name: str) -> None:
    answer = await world.api.get(f"/v1/templates/{name}")
    body = answer.json()
    assert answer.status_code == 404
    assert body["error"] == "Template not found"
    assert body["code"] == "RESOURCE_NOT_FOUND"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["message"]
    assert "details" not in body


async def test_templates_of_others_are_not_found(world: World) -> None:
    row = await world.template("mine")
    assert (await world.stranger.get(f"/v1/templates/{row.id}")).status_code == 404
    assert (await world.stranger.delete("/v1/templates/mine")).status_code == 404
    assert (await world.api.get("/v1/templates/mine")).status_code == 200


async def test_public_template_cannot_be_deleted(world: World) -> None:
    await world.template("python", public=True)
    answer = await world.api.delete("/v1/templates/python")
    assert answer.status_code == 403
    assert (answer.json()["error"], answer.json()["message"]) == (
        "Forbidden",
        "Cannot delete built-in template",
    )


async def test_template_in_use_cannot_be_deleted_until_its_last_sandbox_is_gone(world: World) -> None:
    row = await world.template("mine")
    sandbox = (await world.api.post("/v1/sandboxes", json={"template_name": "mine"})).json()
    answer = await world.api.delete(f"/v1/templates/{row.id}")
    assert answer.status_code == 409
    assert answer.json()["error"] == "Template in use"
    assert answer.json()["message"] == "Template is currently being used by active sandboxes"
    await world.api.delete(f"/v1/sandboxes/{sandbox['id']}")
    assert (await world.api.delete(f"/v1/templates/{row.id}")).status_code == 200
    assert (await world.api.delete(f"/v1/templates/{row.id}")).status_code == 404


async def test_ready_made_template_that_was_never_built_is_not_there(world: World) -> None:
    await world.template("python", public=True, ready=False)
    assert (await world.api.get("/v1/templates")).json()["data"] == []
    assert (await world.api.get("/v1/templates/python")).status_code == 404


async def test_ready_made_template_says_its_own_least_and_most(world: World) -> None:
    row = await world.template("python", public=True)
    least, most = (
        {"vcpu": 1, "memory_mb": 256, "disk_gb": 1},
        {"vcpu": 8, "memory_mb": 16384, "disk_gb": 100},
    )
    async with world.context.database.write() as c:
        await templates.update(c, row.id, min_resources=least, max_resources=most)
    found = (await world.api.get("/v1/templates/python")).json()
    assert (found["min_resources"], found["max_resources"]) == (least, most)
