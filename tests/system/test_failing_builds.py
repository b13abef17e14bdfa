"""Recipes that cannot work end as failed, in time, with the reason; the machine stays well."""

from __future__ import annotations

from typing import Any

import pytest

from .helpers.recipes import recipe, run
from .server import Server

CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "failing-command": (
        recipe("x", run("true"), run("echo before; echo oh no >&2; exit 3")),
        ["step 3", "exit status 3", "oh no"],
    ),
    "missing-package": (
        recipe("x", {"type": "apt", "packages": ["no-such-package-anywhere"]}),
        ["step 2", "no-such-package-anywhere"],
    ),
    "full-disk": (
        recipe("x", run("head -c 3G /dev/zero > /big"), diskGB=1),
        ["step 2", "No space left on device"],
    ),
    "too-much-memory": (
        recipe("x", run("head -c 2G /dev/zero | tail | wc -c"), memory=256),
        ["step 2", "memory"],
    ),
    "start-command-dies": (
        recipe("x", startCmd="echo cannot start; exit 7"),
        ["start command", "status 7", "cannot start"],
    ),
    "never-ready": (
        recipe(
            "x", startCmd="sleep 1000", readyCmd={"type": "port", "port": 9, "timeout": 1500, "interval": 200}
        ),
        ["ready check", "port 9", "1.5 s"],
    ),
    "no-such-user": (recipe("x", {"type": "USER", "args": ["nobody-here"]}, run("true")), ["nobody-here"]),
}


@pytest.mark.parametrize("case", CASES)
def test_failed_with_the_reason(server: Server, case: str) -> None:
    body, words = CASES[case]
    build = server.submit({**body, "alias": f"bad-{case}"})
    status = server.wait(build)
    assert status["status"] == "failed"
    for word in words:
        assert word in status["error_message"], status["error_message"]
    template = server.api.get(f"/v1/templates/bad-{case}").json()
    assert (template["status"], template["is_active"]) == ("failed", False)
    assert server.api.post("/v1/sandboxes", json={"template_name": f"bad-{case}"}).status_code == 409
    assert server.api.get("/health").status_code == 200


def test_unknown_base_image_names_those_that_would_work(server: Server) -> None:
    body = recipe("bad-base")
    body["steps"][0] = {"type": "from", "image": "no-such-distribution:99"}
    status = server.wait(server.submit(body))
    assert status["status"] == "failed"
    assert "debian:12" in status["error_message"]


def test_failed_alias_can_be_used_again(server: Server) -> None:
    first = server.submit(recipe("second-try", run("exit 1")))
    assert server.wait(first)["status"] == "failed"
    again = server.submit(recipe("second-try", run("true")))
    assert again == first
    assert server.wait(again)["status"] == "active"


def test_command_that_never_ends_and_endless_output(own_server: Server) -> None:
    own_server.settings["THAWBOX_STEP_TIMEOUT_S"] = "3"
    own_server.settings["THAWBOX_STEP_LOG_MAX_BYTES"] = "10000"
    own_server.start()
    endless = own_server.submit(recipe("endless", run("sleep 100000")))
    loud = own_server.submit(recipe("loud", run("yes noise")))
    for build in (endless, loud):
        status = own_server.wait(build)
        assert status["status"] == "failed"
        assert "limit 3 s" in status["error_message"]
    assert len(own_server.log_of(loud)) < 20_000


def test_fork_bomb_hurts_only_itself(server: Server) -> None:
    bomb = server.submit(recipe("bomb", run("b() { b | b & }; b; sleep 20; exit 1"), memory=256))
    good = server.build(recipe("beside-the-bomb", run("echo fine")))
    assert server.api.get(f"/v1/templates/{good}").json()["status"] == "active"
    assert server.wait(bomb)["status"] == "failed"


def test_deleting_the_template_stops_its_build(server: Server) -> None:
    build = server.submit(recipe("stopped", run("sleep 1000")))
    assert server.api.delete(f"/v1/templates/{build}").status_code == 200
    assert server.api.get("/v1/templates/stopped").status_code == 404
    assert server.api.get(f"/v1/templates/build/{build}/status").json()["status"] == "failed"
