"""Memory snapshots that the installed runsc cannot restore: sandboxes boot cold until they are made again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .helpers.recipes import recipe, run
from .helpers.runsc import other_runsc
from .helpers.waiting import wait_for
from .server import Sandbox, Server

STARTED = recipe(
    "started",
    run("echo made > /made"),
    startCmd="echo $$ > /run/service.pid; touch /tmp/up; exec sleep 1000000",
    readyCmd={"type": "file", "path": "/tmp/up", "timeout": 20000},
)
SERVICE_RUNS = "test $(cat /proc/$(cat /run/service.pid)/comm) = sleep && cat /made"


@pytest.fixture
def own_server(own_server: Server) -> Server:
    """Nothing waits ready: each sandbox is restored when it is asked for."""
    own_server.settings["THAWBOX_POOL_MAX"] = "0"
    return own_server


def version_folder(server: Server) -> Path:
    (folder,) = (server.state / "snapshots").iterdir()
    return folder


def memory_of(server: Server) -> dict[str, Any]:
    memory: dict[str, Any] = json.loads((version_folder(server) / "manifest.json").read_text())["memory"]
    return memory


def boot_path(server: Server, sandbox: Sandbox) -> str:
    """How the sandbox came up, as the database has it."""
    with sqlite3.connect(f"file:{server.state / 'thawbox.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT boot_path FROM sandboxes WHERE id = ?", (sandbox.id,)).fetchall()
    database.close()
    ((path,),) = rows
    assert isinstance(path, str)
    return path


def events(server: Server, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_new_runsc_gets_new_snapshots_by_itself(own_server: Server, tmp_path: Path) -> None:
    own_server.start()
    own_server.build(STARTED)
    old_one = own_server.create("started")
    assert boot_path(own_server, old_one) == "created"
    before = memory_of(own_server)
    own_server.stop()

    binary, digest = other_runsc(tmp_path)
    assert before["runsc_sha256"] != digest
    own_server.settings["THAWBOX_RUNSC"] = str(binary)
    own_server.start()
    with own_server.create("started") as first:  # at once, while the snapshot is being made again
        assert first.out(SERVICE_RUNS) == "made"
        assert old_one.out(SERVICE_RUNS) == "made"  # it runs on with the runsc that started it
    wait_for(lambda: memory_of(own_server)["runsc_sha256"] == digest, "snapshot made again")
    assert len(events(own_server, "snapshot_made_again")) == 1
    assert events(own_server, "snapshot_not_made_again") == []
    assert memory_of(own_server)["folder"] != before["folder"]
    wait_for(lambda: len(list(version_folder(own_server).glob("memory-*"))) == 1, "the old one is gone")
    with own_server.create("started") as thawed:
        assert boot_path(own_server, thawed) == "created"
        assert thawed.out(SERVICE_RUNS) == "made"
    assert events(own_server, "restore_failed") == []
    assert own_server.api.delete(f"/v1/sandboxes/{old_one.id}").status_code == 200
    wait_for(lambda: not list((own_server.state / "run" / "bundles").iterdir()), "freed")


def test_cold_until_the_snapshot_is_there_again(own_server: Server, tmp_path: Path) -> None:
    """The manifest names another runsc than the installed one: nothing is restored that could not work."""
    own_server.start()
    own_server.build(STARTED)
    manifest = version_folder(own_server) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["memory"]["runsc_sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    with own_server.create("started", env_vars={"MINE": "yes"}) as cold:
        assert boot_path(own_server, cold) == "cold"
        assert cold.out(SERVICE_RUNS) == "made"
        assert cold.out("echo $MINE; hostname") == f"yes\n{cold.id}"
    assert events(own_server, "restore_failed") == []
    log = own_server.log_of(own_server.build({**STARTED, "update": True}))
    assert "snapshot: CACHED" not in log  # a build does not take the useless one for done
    with own_server.create("started") as thawed:
        assert boot_path(own_server, thawed) == "created"


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def garble(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(bytes(range(256)) * (size // 2 // 256 + 1))
        file.truncate(size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "garbled": garble,
    "missing": Path.unlink,
}


def test_damaged_memory_boots_cold_with_the_start_command(own_server: Server) -> None:
    own_server.start()
    own_server.build(STARTED)
    sound = version_folder(own_server) / memory_of(own_server)["folder"]
    kept = own_server.state / "sound"
    shutil.copytree(sound, kept)
    names = sorted(path.name for path in sound.iterdir())
    assert names
    outcomes = {}
    for name in names:
        for damage, inflict in DAMAGES.items():
            if (name, damage) == ("pages.img", "garbled"):
                continue  # nobody looks at each page, and the guest may not need the garbled ones
            inflict(sound / name)
            with own_server.create("started", env_vars={"MINE": "yes"}) as sandbox:
                outcomes[name, damage] = boot_path(own_server, sandbox)
                assert sandbox.out(SERVICE_RUNS) == "made", (name, damage)
                assert sandbox.out("echo $MINE; hostname") == f"yes\n{sandbox.id}"
            shutil.copy(kept / name, sound / name)
    assert set(outcomes.values()) == {"cold"}, outcomes
    with own_server.create("started") as sandbox:
        assert boot_path(own_server, sandbox) == "created"  # so it was the damage
