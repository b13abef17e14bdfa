"""kill -9 at any moment loses nothing that was promised and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .helpers.machine import NOTHING, left_on_machine
from .helpers.recipes import recipe, run
from .helpers.waiting import wait_for
from .server import Server

CYCLES = int(os.environ.get("THAWBOX_TEST_CYCLES", "8"))


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


PHASES: dict[str, Callable[[Server, str], bool]] = {
    "queued": lambda server, build: True,
    "step": lambda server, build: "second begins" in server.log_of(build),
    "layer": lambda server, build: any((server.state / "tmp").glob("layer-*/layer.tar")),
    "image": lambda server, build: any((server.state / "tmp").glob("*.erofs*")),
    "snapshot": lambda server, build: any((server.state / "tmp").glob("memory-*")),
}


@pytest.mark.parametrize("phase", PHASES)
def test_killed_build_continues(own_server: Server, phase: str) -> None:
    own_server.start()
    assert left_on_machine(own_server) != NOTHING  # we look in the right places
    build = own_server.submit(
        recipe(
            "continued",
            run("date +%s%N > /first"),
            run("echo second begins; head -c 50M /dev/urandom > /second; sleep 0.5"),
        )
    )
    wait_for(lambda: PHASES[phase](own_server, build), phase)
    first = own_server.log_of(build)
    own_server.kill()
    own_server.start()
    status = own_server.wait(build)
    assert status["status"] == "active", status
    log = own_server.log_of(build)
    if "[2/3] done" in first:
        assert "CACHED [2/3]" in log
    with own_server.create("continued") as sandbox:
        assert sandbox.out("stat -c %s /second") == str(50 * 2**20)
    assert files_below(own_server.state / "tmp") in ([], ["images"])
    own_server.stop()
    assert left_on_machine(own_server) == NOTHING


def test_sandboxes_live_through_restart_and_kill(own_server: Server) -> None:
    own_server.start()
    own_server.build(recipe("kept", run("true")))
    sandbox = own_server.create("kept", env_vars={"A": "b"})
    sandbox.run("echo here > /root/file")
    own_server.kill()
    own_server.start()
    assert sandbox.out("cat /root/file; echo $A") == "here\nb"
    own_server.stop()
    own_server.start()
    assert sandbox.out("cat /root/file") == "here"
    assert own_server.api.get(f"/v1/sandboxes/{sandbox.id}").json()["status"] == "running"
    sandbox.__exit__()
    assert own_server.api.get(f"/v1/sandboxes/{sandbox.id}").status_code == 404


def test_expiry_survives_restart(own_server: Server) -> None:
    own_server.start()
    own_server.build(recipe("expiring", run("true")))
    sandbox = own_server.create("expiring", timeout_seconds=2)
    own_server.kill()
    time.sleep(2)  # its time runs out while nobody looks
    own_server.start()
    wait_for(lambda: own_server.api.get(f"/v1/sandboxes/{sandbox.id}").status_code == 404, "expired")
    wait_for(lambda: not (own_server.state / "run" / "bundles" / sandbox.id).exists(), "freed")


def test_sandbox_that_starves_says_so_and_frees_everything(own_server: Server) -> None:
    own_server.start()
    own_server.build(recipe("starving", run("true"), memory=256))
    sandbox = own_server.create("starving")
    sandbox.gateway.post("/commands/run", json={"command": "head -c 2G /dev/zero | tail", "timeout": 60})

    def status() -> dict[str, str]:
        record: dict[str, str] = own_server.api.get(f"/v1/sandboxes/{sandbox.id}").json()
        return record

    wait_for(lambda: status()["status"] == "error", "in error")
    wait_for(lambda: not (own_server.state / "run" / "bundles" / sandbox.id).exists(), "freed")
    assert own_server.api.delete(f"/v1/sandboxes/{sandbox.id}").status_code == 200


def test_many_builds_and_deletes_leave_nothing(own_server: Server) -> None:
    own_server.start()
    folders = ("images", "snapshots", "logs", "uploads", "layers", "run/bundles", "run/upper", "run/mounts")
    clean = {name: files_below(own_server.state / name) for name in folders}
    for number in range(CYCLES):
        build = own_server.build(recipe("cycle", run(f"echo {number} > /number")))
        with own_server.create("cycle") as sandbox:
            assert sandbox.out("cat /number") == str(number)
        assert own_server.api.delete(f"/v1/templates/{build}").status_code == 200
    wait_for(lambda: not list((own_server.state / "run" / "bundles").iterdir()), "no pool without a template")
    agents = list((own_server.state / "runtime").glob("agent-*"))
    (own_server.state / "runtime" / "agent-0123456789abcdef.erofs").write_bytes(b"of an earlier release")
    done = own_server.thaw("gc", "--json")
    assert done.returncode == 0, done.stderr
    assert list((own_server.state / "runtime").glob("agent-*")) == agents
    after = {name: files_below(own_server.state / name) for name in folders}
    clean["layers"] = after["layers"] = []  # the base image was there before
    assert after == clean
    assert [path.name for path in (own_server.state / "layers").iterdir()] == ["index"]
    with contextlib.closing(sqlite3.connect(own_server.state / "thawbox.db")) as rows, rows:
        rows.execute("UPDATE builds SET completed_at = completed_at - 31 * 86400")
    aged = json.loads(own_server.thaw("gc", "--json").stdout)
    assert (json.loads(done.stdout)["removed"]["builds"], aged["removed"]["builds"]) == (0, CYCLES)
    own_server.stop()
    assert left_on_machine(own_server) == NOTHING
