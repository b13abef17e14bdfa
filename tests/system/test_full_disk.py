"""The machine's own disk is full: what runs goes on, the answer says why, and with room again all works."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from .helpers.lifecycle import ask, record_of
from .helpers.recipes import recipe, run
from .server import Server

FULL = "the disk of the server is full"


@pytest.fixture
def small(tmp_path: Path, server: Server) -> Iterator[Server]:
    """A server with a small disk of its own, and the base image of the shared one. Pause goes to disk at once."""
    server.build(recipe("base-for-small"))
    own = Server(tmp_path / "state", pause_memory_s="0", pool_max="0")
    own.state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800m,mode=700", "tmpfs", own.state], check=True)
    try:
        copy_base(server.state / "layers", own.state / "layers")
        own.start()
        yield own
        fill(own, None)
        own.remove()
    finally:
        subprocess.run(["umount", "--lazy", own.state], check=True)


def copy_base(layers: Path, to: Path) -> None:
    """The layer of debian:12 alone, whatever other tests have built."""
    shutil.copytree(layers / "index", to / "index")
    for about in layers.glob("*/layer.json"):
        if json.loads(about.read_text())["title"] == "FROM debian:12":
            subprocess.run(["cp", "-a", about.parent, to], check=True)


def fill(server: Server, leave: int | None) -> None:
    """Take all of the disk but ``leave`` bytes; None: give all back."""
    hog = server.state / "hog"
    hog.unlink(missing_ok=True)
    if leave is not None:
        disk = os.statvfs(server.state)
        with hog.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - leave)


def what_is_there(server: Server) -> dict[str, list[str]]:
    folders = ("tmp", "paused", "snapshots", "images", "layers", "uploads", "run/bundles", "run/upper")
    return {name: sorted(path.name for path in (server.state / name).iterdir()) for name in folders}


def test_full_disk(small: Server) -> None:
    small.build(recipe("small", run("true")))
    sandbox = small.create("small")
    sandbox.out("head -c 40M /dev/urandom > /dev/shm/blob; md5sum /dev/shm/blob > /sum")
    before = what_is_there(small)
    fill(small, 20 << 20)

    assert FULL in str(ask(small, sandbox, "pause", 503)["message"])
    assert record_of(small, sandbox)["status"] == "paused"  # in memory
    assert ask(small, sandbox, "resume")["status"] == "running"
    for verb, body in (("stop", {}), ("snapshot", {"name": "saved"}), ("fork", {})):
        assert FULL in str(ask(small, sandbox, verb, 503, **body)["message"])
        assert record_of(small, sandbox)["status"] == "running"
    # Room for what the step writes, but not for a copy of it.
    failed = small.wait(small.submit(recipe("big", run("head -c 15M /dev/urandom > /big"))))
    assert (failed["status"], FULL in failed["error_message"]) == ("failed", True)
    failed = small.wait(small.submit(recipe("big", run("head -c 30M /dev/urandom > /big"))))
    assert "or the server's that it lies on" in failed["error_message"]
    refused = sandbox.gateway.post("/files/upload", files={"file": b"x" * (30 << 20)}, data={"path": "/x"})
    assert (refused.status_code, refused.json()["code"]) == (413, "DISK_FULL")
    link = small.api.post(
        "/v1/templates/files/upload-link", json={"files_hash": "a" * 64, "content_length": 30 << 20}
    ).json()
    refused = httpx.put(link["upload_url"], content=bytes(30 << 20))
    assert FULL in refused.json()["message"]
    fill(small, 0)
    refused = small.api.post("/v1/sandboxes", json={"template_name": "small"})
    assert (refused.status_code, FULL in refused.json()["message"]) == (503, True)
    assert sandbox.out("md5sum -c --quiet /sum; echo good") == "good"
    assert what_is_there(small) == before
    assert small.thaw("gc").returncode == 0  # the way out
    fill(small, None)
    with closing(sqlite3.connect(small.state / "thawbox.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert ask(small, sandbox, "pause")["status"] == "paused"
    assert what_is_there(small)["run/bundles"] == []
    assert ask(small, sandbox, "resume")["status"] == "running"
    assert sandbox.out("md5sum -c --quiet /sum; echo good") == "good"
    ask(small, sandbox, "snapshot", 201, name="saved")
    small.build(recipe("big", run("head -c 15M /dev/urandom > /big")))
    assert sandbox.gateway.post(
        "/files/upload", files={"file": b"x" * (30 << 20)}, data={"path": "/x"}
    ).is_success
