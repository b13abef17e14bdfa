"""Background jobs and time limits under the real runtime."""

from __future__ import annotations

import time
from typing import Any

import httpx

from .server import Server

RECIPE = {"alias": "jobs", "memory": 256, "steps": [{"type": "from", "image": "debian:12"}]}


def post(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def job(client: httpx.Client, process_id: str) -> dict[str, Any]:
    answer = client.get(f"/execute/processes/{process_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until(client: httpx.Client, process_id: str, **fields: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = job(client, process_id)
        if all(found[name] == value for name, value in fields.items()):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


# Each process starts two, four generations deep, and all stay: what a program that runs away looks like.
RUNAWAY = "f() { [ $1 = 0 ] || { f $(($1-1)) & f $(($1-1)) & }; sleep 600; }; f 4"


def processes(client: httpx.Client) -> list[str]:
    return [one["name"] for one in client.get("/processes").json()["processes"]]


def test_time_over_ends_everything_that_was_started(server: Server) -> None:
    server.build(RECIPE)
    with server.create("jobs") as sandbox:
        client = sandbox.gateway
        ran = post(client, "/execute", code=RUNAWAY, language="bash", timeout=2)
        assert (ran["exit_code"], ran["success"]) == (124, False)
        assert "sleep" not in processes(client)
        started = post(client, "/commands/background", command=RUNAWAY, timeout=2)
        assert until(client, started["process_id"], status="failed")["exit_code"] == 124
        assert "sleep" not in processes(client)
        started = post(client, "/commands/background", command=RUNAWAY)
        while processes(client).count("sleep") < 31:
            time.sleep(0.05)
        assert post(client, f"/execute/kill/{started['process_id']}")["status"] == "killed"
        assert "sleep" not in processes(client)
        assert post(client, "/commands/run", command="echo alive")["stdout"] == "alive\n"


def test_jobs_and_environment_outlive_the_server(own_server: Server) -> None:
    own_server.start()
    own_server.build(RECIPE)
    with own_server.create("jobs") as sandbox:
        client = sandbox.gateway
        assert client.patch("/env", json={"env_vars": {"KEPT": "yes"}}).status_code == 200
        line = "echo begun $KEPT; until [ -e /tmp/go ]; do sleep 0.05; done; echo ended"
        started = post(client, "/commands/background", command=line, name="survivor")
        until(client, started["process_id"], stdout="begun yes\n")
        own_server.kill()
        own_server.start()
        assert job(client, started["process_id"])["status"] == "running"
        assert post(client, "/commands/run", command="touch /tmp/go; echo $KEPT")["stdout"] == "yes\n"
        found = until(client, started["process_id"], status="completed")
        assert (found["stdout"], found["name"]) == ("begun yes\nended\n", "survivor")
