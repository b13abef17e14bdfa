"""Sandboxes that waited ready are as new ones are: nobody else's, with an identity and random numbers of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import server_of_its_own
from .helpers.machine import NOTHING, left_on_machine
from .helpers.recipes import recipe, run
from .helpers.waiting import wait_for
from .server import Sandbox, Server

READY = 4


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Server]:
    """A server that keeps four sandboxes of each template and one shell, with a template `pooled`."""
    with server_of_its_own(tmp_path_factory.mktemp("pooled"), server) as own:
        own.settings |= {
            "THAWBOX_POOL_MIN": str(READY),
            "THAWBOX_POOL_MAX": str(READY),
            "THAWBOX_POOL_SHELLS": "1",
        }
        own.start()
        install = "apt-get update -q && apt-get install -qy --no-install-recommends python3-minimal"
        own.build(recipe("pooled", run(f"({install}) >/dev/null")))
        yield own


def pool_of(server: Server, template: str) -> dict[str, Any]:
    done = server.thaw("pools", "--json", "--state", str(server.state))
    assert done.returncode == 0, done.stderr
    return next((pool for pool in json.loads(done.stdout) if pool["template"] == template), {})


def wait_until_full(server: Server, template: str = "pooled") -> None:
    def full() -> bool:
        pool = pool_of(server, template)
        return bool(pool) and pool["ready"] == READY and pool["shells"] == 1

    wait_for(full, "a full pool")


def runsc_processes(server: Server, container: str) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_of(entry, str(server.state), container)
    ]


def _is_of(process: Path, *words: str) -> bool:
    try:
        line = (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return all(word in line for word in words)


def waiting_containers(server: Server) -> set[str]:
    listed = {item["id"] for item in server.api.get("/v1/sandboxes").json()["data"]}
    return {path.name for path in (server.state / "run" / "bundles").iterdir()} - listed


def test_identity_time_environment_and_randomness_are_its_own(pooled: Server) -> None:
    wait_until_full(pooled)
    with (
        pooled.create("pooled", env_vars={"WHO": "first"}) as first,
        pooled.create("pooled", env_vars={"WHO": "second"}) as second,
    ):
        for sandbox, who in ((first, "first"), (second, "second")):
            assert sandbox.record["boot_path"] == "warm"
            assert sandbox.record["timings"]["total"] > 0
            assert sandbox.out("hostname; cat /etc/hostname; echo $WHO") == "\n".join(
                [sandbox.id] * 2 + [who]
            )
            assert sandbox.id in sandbox.out("cat /etc/hosts")
            assert abs(float(sandbox.out("date +%s.%N")) - time.time()) < 2
            assert int(sandbox.out("cat /sys/fs/cgroup/memory/memory.limit_in_bytes || echo 0")) >= 0
        drawn = [
            sandbox.out(
                "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1;"
                "python3 -c 'import random, os; print(random.random(), os.urandom(8).hex(), hash(\"x\"))'"
            ).splitlines()
            for sandbox in (first, second)
        ]
        assert len(drawn[0]) == len(drawn[1]) == 3
        assert not set(drawn[0]) & set(drawn[1])


def test_dead_one_is_not_handed_over(pooled: Server) -> None:
    wait_until_full(pooled)
    waiting = waiting_containers(pooled)
    assert len(waiting) == READY + 1
    for container in waiting:
        for process in runsc_processes(pooled, container):
            subprocess.run(["kill", "-9", str(process)], check=False)
    with pooled.create("pooled") as sandbox:
        assert sandbox.id not in waiting
        assert sandbox.out("echo well") == "well"
    wait_until_full(pooled)
    assert not waiting & {path.name for path in (pooled.state / "run" / "bundles").iterdir()}


def test_crowd_gets_what_waits_then_shells_then_new_ones(pooled: Server) -> None:
    wait_until_full(pooled)
    count = READY + 4
    with ThreadPoolExecutor(count) as clients:
        sandboxes = list(clients.map(lambda _: pooled.create("pooled"), range(count)))
        assert len({sandbox.id for sandbox in sandboxes}) == count
        assert list(clients.map(lambda sandbox: sandbox.out("hostname"), sandboxes)) == [
            sandbox.id for sandbox in sandboxes
        ]
    paths = [sandbox.record["boot_path"] for sandbox in sandboxes]
    assert paths.count("warm") >= READY
    assert set(paths) == {"warm", "shell", "created"}
    for sandbox in sandboxes:
        with sandbox:
            pass
    wait_until_full(pooled)


def test_no_internet_from_a_shell(pooled: Server) -> None:
    wait_until_full(pooled)
    with pooled.create("pooled", internet_access=False) as sandbox:
        assert sandbox.record["boot_path"] == "shell"
        line = 'import socket; socket.create_connection(("192.0.2.1", 80), 3)'
        result = sandbox.run(f"python3 -c '{line}'")
        assert result["exit_code"] == 1, result
        assert (
            "timed out" in result["stderr"]
            or "unreachable" in result["stderr"]
            or "refused" in result["stderr"]
        )


def test_update_replaces_what_waits(pooled: Server) -> None:
    pooled.build(recipe("changing", run("echo old > /version")))
    wait_until_full(pooled, "changing")
    old = pool_of(pooled, "changing")["snapshot"]
    pooled.build({**recipe("changing", run("echo new > /version")), "update": True})
    with pooled.create("changing") as sandbox:
        assert sandbox.out("cat /version") == "new"
        assert sandbox.record["boot_path"] == "warm"  # ready before it was published
    wait_for(lambda: pool_of(pooled, "changing")["snapshot"] != old, "a pool of the new version")
    wait_until_full(pooled, "changing")
    metrics = pooled.api.get("/metrics").text
    assert 'thawbox_pool_ready{template="changing"}' in metrics
    template = pooled.api.get("/v1/templates/changing").json()
    assert pooled.api.delete(f"/v1/templates/{template['id']}").status_code in (200, 204)


def test_table_for_people(pooled: Server) -> None:
    done = pooled.thaw("pools", "--state", str(pooled.state))
    assert done.returncode == 0
    head, *lines = done.stdout.decode().splitlines()
    assert head.split() == ["TEMPLATE", "READY", "SHELLS", "DEMAND", "HITS", "MISSES", "REFILL"]
    assert any(line.startswith("pooled ") and f"/{READY}" in line for line in lines)


def test_kill_amid_creates_loses_none_that_was_answered(pooled: Server) -> None:
    wait_until_full(pooled)
    answered: list[Sandbox] = []
    enough = threading.Event()

    def create(_: int) -> None:
        try:
            answer = pooled.api.post("/v1/sandboxes", json={"template_name": "pooled"})
        except httpx.TransportError:
            return
        if answer.status_code == 201:
            answered.append(Sandbox(pooled, answer.json()))
            if len(answered) == 10:
                enough.set()

    with ThreadPoolExecutor(100) as clients:
        requests = [clients.submit(create, number) for number in range(100)]
        assert enough.wait(60)
        assert pooled.process is not None
        pooled.process.send_signal(signal.SIGKILL)
        for request in requests:
            request.result()
    pooled.kill()
    assert 10 <= len(answered) < 100
    pooled.start()
    listed = {item["id"]: item for item in pooled.api.get("/v1/sandboxes?limit=1000").json()["data"]}
    assert {sandbox.id for sandbox in answered} <= set(listed)
    assert {item["status"] for item in listed.values()} == {"running"}
    for sandbox in answered:
        assert sandbox.out("hostname") == sandbox.id
    wait_until_full(pooled)
    bundles = {path.name for path in (pooled.state / "run" / "bundles").iterdir()}
    assert len(bundles - set(listed)) == READY + 1
    for name in listed:
        assert pooled.api.delete(f"/v1/sandboxes/{name}").status_code == 200
    pooled.stop()
    assert left_on_machine(pooled) == NOTHING
    assert list((pooled.state / "run" / "bundles").iterdir()) == []
