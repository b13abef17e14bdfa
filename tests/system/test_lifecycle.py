"""Pause, resume, stop, start, fork and save with the real runtime."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .conftest import server_of_its_own
from .helpers.lifecycle import COUNTER, ask, containers, grows, record_of
from .helpers.machine import NOTHING, left_on_machine
from .helpers.recipes import recipe, run
from .helpers.runsc import other_runsc
from .helpers.waiting import wait_for
from .server import Sandbox, Server

LIVING = recipe(
    "living",
    run("echo base > /base"),
    startCmd="echo started >> /var/started; exec sleep 1000000",
    memory=256,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Server]:
    """One server for this file, which the tests kill and start as they like; nothing of it is left at the end."""
    with server_of_its_own(tmp_path_factory.mktemp("lifecycle"), server) as own:
        own.settings["THAWBOX_POOL_MAX"] = "0"  # the tests count containers
        own.start()
        own.build(LIVING)
        yield own
        own.stop()
        assert left_on_machine(own) == NOTHING


@pytest.fixture
def own(shared: Server) -> Iterator[Server]:
    """It runs and has the template; the test's sandboxes leave nothing."""
    yield shared
    for sandbox in shared.api.get("/v1/sandboxes").json()["data"]:
        shared.api.delete(f"/v1/sandboxes/{sandbox['id']}")
    assert containers(shared) == []
    assert [*(shared.state / "paused").iterdir(), *(shared.state / "run" / "upper").iterdir()] == []
    assert [path.name for path in (shared.state / "tmp").iterdir()] in ([], ["images"])


def test_frozen_then_on_disk_then_elsewhere(own: Server) -> None:
    sandbox = own.create("living", env_vars={"MINE": "yes"})
    sandbox.run(COUNTER)
    sandbox.out("head -c 20M /dev/urandom > /blob; md5sum /blob > /sum")
    host = record_of(own, sandbox)["public_host"]
    ask(own, sandbox, "pause")
    assert containers(own) == [sandbox.id]
    answer = sandbox.gateway.post("/commands/run", json={"command": "true"})
    assert (answer.status_code, answer.json()["code"]) == (503, "SANDBOX_PAUSED")
    assert ask(own, sandbox, "resume")["status"] == "running"
    grows(sandbox)
    for end in (own.kill, own.stop):
        ask(own, sandbox, "pause")
        end()
        own.start()
        assert record_of(own, sandbox)["status"] == "paused"
        assert containers(own) == ([sandbox.id] if end == own.kill else [])  # stop moved it to disk
        with own.create("living") as other:  # takes the slot
            ask(own, sandbox, "resume")
            assert abs(float(sandbox.out("date +%s.%N")) - time.time()) < 1
            assert sandbox.out("md5sum -c --quiet /sum; cat /base; echo $MINE; hostname") == (
                f"base\nyes\n{sandbox.id}"
            )
            grows(sandbox)
            assert other.out("echo [$MINE]") == "[]"
    assert record_of(own, sandbox)["public_host"] == host


def test_stop_and_start(own: Server) -> None:
    sandbox = own.create("living", env_vars={"MINE": "yes"})
    sandbox.run(COUNTER)
    sandbox.out(
        "echo kept > /tmp/kept; mkdir -p /srv/x && ln -s /tmp/kept /srv/x/link; chown -h daemon /srv/x/link"
    )
    assert ask(own, sandbox, "stop")["status"] == "stopped"
    assert containers(own) == []
    answer = sandbox.gateway.post("/commands/run", json={"command": "true"})
    assert (answer.status_code, answer.json()["code"]) == (409, "SANDBOX_STOPPED")
    own.kill()
    own.start()
    assert ask(own, sandbox, "start")["status"] == "running"
    count = sandbox.out("wc -l < /var/count")
    assert sandbox.out("cat /srv/x/link; stat -c %U /srv/x/link; echo $MINE") == "kept\ndaemon\nyes"
    assert sandbox.out("cat /var/started") == "started\nstarted"
    assert sandbox.out("wc -l < /var/count") == count
    ask(own, sandbox, "pause")
    assert ask(own, sandbox, "stop")["status"] == "stopped"
    assert own.api.delete(f"/v1/sandboxes/{sandbox.id}").status_code == 200


def test_fork_and_save(own: Server) -> None:
    source = own.create("living", env_vars={"MINE": "only-for-this-one"})
    source.run("unset MINE; " + COUNTER)
    source.out("echo data > /data")
    grows(source)
    made = ask(own, source, "fork", 201, count=2, env_vars={"NUMBER": "7"}, timeout_seconds=600)["data"]
    assert isinstance(made, list)
    forks = [Sandbox(own, record) for record in made]
    randoms = set()
    for fork in forks:
        grows(fork)
        assert fork.out("cat /data; echo $MINE $NUMBER; hostname") == f"data\nonly-for-this-one 7\n{fork.id}"
        randoms.add(fork.out("head -c 16 /dev/urandom | od -An -tx1"))
        fork.run("echo changed > /data")
    assert len(randoms) == 2
    grows(source)
    assert source.out("cat /data; echo [$NUMBER]") == "data\n[]"

    ask(own, source, "pause")  # a template of a frozen one is as good
    saved = ask(own, source, "snapshot", 201, name="saved", description="as it was")
    assert (saved["name"], saved["status"], saved["is_active"]) == ("saved", "active", True)
    assert ask(own, source, "snapshot", 409, name="saved")["code"] == "ALREADY_EXISTS"
    assert ask(own, source, "snapshot", 400, name="stream")["code"] == "INVALID_REQUEST"
    assert record_of(own, source)["status"] == "paused"
    with own.create("saved", env_vars={"OTHER": "x"}) as thawed:
        grows(thawed)
        assert thawed.out("cat /data; echo [$MINE] $OTHER; hostname") == f"data\n[] x\n{thawed.id}"
    pages = [path.read_bytes() for path in (own.state / "snapshots").rglob("*.img")]
    assert pages
    assert not any(b"only-for-this-one" in page for page in pages)  # no program had it in its environment
    own.api.delete(f"/v1/sandboxes/{source.id}")
    with own.create("saved") as thawed:  # lives without its source
        grows(thawed)
    assert own.api.delete("/v1/templates/saved").status_code == 200
    assert len(list((own.state / "snapshots").iterdir())) == 1


def test_another_runsc_cannot_resume_and_says_so(own: Server, tmp_path: Path) -> None:
    sandbox = own.create("living")
    sandbox.out("echo kept > /kept")
    ask(own, sandbox, "pause")
    own.stop()
    own.settings["THAWBOX_RUNSC"] = str(other_runsc(tmp_path)[0])
    own.start()
    record = record_of(own, sandbox)
    assert record["status"] == "error"
    assert "another build of the runtime" in str(record["error_message"])
    assert ask(own, sandbox, "resume", 409)["code"] == "INVALID_STATE"
    own.stop()
    del own.settings["THAWBOX_RUNSC"]
    own.start()
    ask(own, sandbox, "resume")
    assert sandbox.out("cat /kept") == "kept"


def test_expiry_while_paused_and_killed_in_the_middle(own: Server) -> None:
    sandbox = own.create("living")
    ask(own, sandbox, "pause")
    answer = own.api.put(f"/v1/sandboxes/{sandbox.id}/timeout", json={"timeout_seconds": 1})
    assert answer.status_code == 200
    wait_for(lambda: own.api.get(f"/v1/sandboxes/{sandbox.id}").status_code == 404, "expired")

    sandbox = own.create("living")
    sandbox.out("head -c 100M /dev/urandom > /blob; md5sum /blob > /sum")
    for verb, undone in (("pause", "resume"), ("stop", "start"), ("pause", "resume")):
        with contextlib.suppress(httpx.TimeoutException):
            httpx.post(f"{own.url}/v1/sandboxes/{sandbox.id}/{verb}", headers=own.api.headers, timeout=0.05)
        own.kill()
        own.start()
        if record_of(own, sandbox)["status"] != "running":
            ask(own, sandbox, undone)
        assert sandbox.out("md5sum -c --quiet /sum && echo whole") == "whole"


def test_streams_tell_and_end(own: Server) -> None:
    with own.api.stream("GET", "/v1/sandboxes/events/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": listening"
        sandbox = own.create("living")
        ask(own, sandbox, "pause")
        ask(own, sandbox, "resume")
        own.api.delete(f"/v1/sandboxes/{sandbox.id}")
        seen: list[tuple[str, str]] = []
        while len(seen) < 5:
            line = next(lines)
            if line.startswith("event: "):
                seen.append((line.removeprefix("event: sandbox."), json.loads(next(lines)[6:])["status"]))
        assert seen == [
            ("created", "creating"),
            ("updated", "running"),
            ("updated", "paused"),
            ("updated", "running"),
            ("deleted", "deleted"),
        ]
        sandbox = own.create("living")
        with own.api.stream("GET", f"/v1/sandboxes/{sandbox.id}/metrics/stream") as metrics:
            data = next(line for line in metrics.iter_lines() if line.startswith("data: "))
            usage = json.loads(data[6:])
            assert usage["uptime_seconds"] >= 0
            assert usage["system"]["memory"]["total"] > 0
        with own.api.stream("GET", "/v1/templates/stream") as templates:
            news = templates.iter_lines()
            assert next(news) == ": listening"
            build = own.build(recipe("news", run("echo news")))
            events = [line for line in (next(news) for _ in range(8)) if line.startswith("event: ")]
            assert "event: template.updated" in events
            own.api.delete(f"/v1/templates/{build}")
            began = time.monotonic()
            own.stop()
            assert time.monotonic() - began < 8
            assert os.path.exists(own.state)
            list(news)
        list(lines)
    own.start()
