from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import thawbox.agent
from tests.support.gateway import Gate
from thawbox.gateway.run import languages


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "RUNNER", str(Path(thawbox.agent.__file__).parent / "python" / "run.py"))


async def post(gate: Gate, path: str, **body: Any) -> dict[str, Any]:
    answer = await gate.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def ended(gate: Gate, process_id: str) -> dict[str, Any]:
    """The job when it is over, with its whole output."""
    async with asyncio.timeout(20):
        while True:
            answer = await gate.client.get(f"/execute/processes/{process_id}")
            assert answer.status_code == 200, answer.text
            job: dict[str, Any] = answer.json()
            if job["status"] != "running":
                return job
            await asyncio.sleep(0.02)


async def listed(gate: Gate, process_id: str) -> dict[str, Any]:
    found = (await gate.client.get("/execute/processes")).json()["processes"]
    return next(item for item in found if item["process_id"] == process_id)


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}") and Path(f"/proc/{pid}/stat").read_bytes().split()[2] != b"Z"


async def gone(pid: int) -> None:
    """A killed process takes a moment to die; only our own child is waited for before the answer."""
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)


async def test_code_in_the_background(gate: Gate) -> None:
    source = "import os\nprint(os.environ['X'], os.getcwd(), input)\nraise SystemExit(3)"
    started = await post(gate, "/execute/background", code=source, name="mine", env={"X": "1"})
    assert started["process_id"].startswith("proc_")
    assert started["execution_id"] == started["process_id"].replace("proc_", "exec_")
    assert (started["status"], started["name"]) == ("running", "mine")
    assert started["start_time"].endswith("Z")
    job = await ended(gate, started["process_id"])
    assert job["stdout"] == f"1 {gate.folder} <built-in function input>\n"
    assert (job["status"], job["exit_code"], job["name"], job["language"]) == ("failed", 3, "mine", "python")
    assert job["completed_at"] == job["end_time"] > job["start_time"] == job["started_at"]
    assert job["duration"] == job["execution_time"] > 0
    item = await listed(gate, started["process_id"])
    assert (item["status"], item["execution_id"]) == ("failed", started["execution_id"])


async def test_command_in_the_background(gate: Gate) -> None:
    started = await post(gate, "/commands/background", command="echo", args=["a b", "$X"])
    assert started["command"] == "echo"
    job = await ended(gate, started["execution_id"])
    assert (job["status"], job["stdout"], job["command"]) == ("completed", "a b $X\n", "echo a b $X")
    assert job["language"] is None
    started = await post(gate, "/commands/background", command="echo $X; pwd", env={"X": "1"}, workdir="/usr")
    assert (await ended(gate, started["process_id"]))["stdout"] == "1\n/usr\n"


async def test_a_program_that_does_not_exist_is_a_failed_job(gate: Gate, tmp_path: Path) -> None:
    started = await post(gate, "/commands/background", command="no-such-program", args=[])
    assert started["status"] == "failed"
    job = await ended(gate, started["process_id"])
    assert (job["exit_code"], job["pid"]) == (127, 0)
    for language in ("python", "go"):
        started = await post(
            gate, "/execute/background", code="1", env={"PATH": str(tmp_path)}, language=language
        )
        job = await ended(gate, started["process_id"])
        assert job["exit_code"] == 127
        assert f"This template has no {language}" in job["stderr"]


async def test_the_agent_ends_a_job_whose_time_is_over(gate: Gate) -> None:
    started = await post(gate, "/commands/background", command="sleep 600 & echo $!; wait", timeout=2)
    job = await ended(gate, started["process_id"])
    assert (job["exit_code"], job["status"], job["timed_out"]) == (124, "failed", True)
    assert "timed out" in job["stderr"]
    await gone(int(job["stdout"]))


async def test_endless_output_does_not_fill_the_disk(gate: Gate) -> None:
    started = await post(gate, "/commands/background", command="head -c 20000000 /dev/zero; echo end >&2")
    job = await ended(gate, started["process_id"])
    assert (job["exit_code"], job["truncated"], len(job["stdout"])) == (0, True, 4 << 20)
    assert job["stderr"].startswith("end\n")
    assert "output was cut" in job["stderr"]


async def test_what_a_job_leaves_behind_lives_on(gate: Gate) -> None:
    line = "(while echo x; do sleep 0.05; done) & echo $!"
    started = await post(gate, "/commands/background", command=line)
    job = await ended(gate, started["process_id"])
    pid = int(next(word for word in job["stdout"].split() if word != "x"))
    assert job["status"] == "completed"
    async with asyncio.timeout(10):
        while (await gate.client.get(f"/execute/processes/{started['process_id']}")).json()["stdout"].count(
            "x"
        ) < 5:
            await asyncio.sleep(0.02)
    assert alive(pid)
    assert (await gate.client.post(f"/execute/kill/{pid}")).status_code == 200


@pytest.mark.parametrize("spelling", range(7))
async def test_kill(gate: Gate, spelling: int) -> None:
    started = await post(gate, "/commands/background", command="sleep 600 & echo $!; wait")
    process_id, pid = started["process_id"], started["pid"]
    async with asyncio.timeout(10):
        while not (child := (await listed(gate, process_id))["stdout"]):
            await asyncio.sleep(0.01)
    sends: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: gate.client.post(f"/execute/kill/{process_id}"),
        lambda: gate.client.post(f"/execute/kill/{pid}"),
        lambda: gate.client.post(f"/processes/{started['execution_id']}/kill"),
        lambda: gate.client.request("DELETE", "/execute/kill", json={"process_id": process_id}),
        lambda: gate.client.request("DELETE", "/execute/kill", params={"process_id": process_id}),
        lambda: gate.client.post("/execute/kill", json={"process_id": pid}),
        lambda: gate.client.post("/execute/kill", json={"execution_id": started["execution_id"]}),
    ]
    answer = await sends[spelling]()
    assert (answer.status_code, answer.json()["status"]) == (200, "killed"), answer.text
    job = await listed(gate, process_id)
    assert (job["status"], job["exit_code"]) == ("killed", 137)
    assert not alive(pid)
    await gone(int(child))


async def test_kill_of_what_has_ended(gate: Gate) -> None:
    started = await post(gate, "/commands/background", command="true")
    await ended(gate, started["process_id"])
    answer = await gate.client.post(f"/execute/kill/{started['process_id']}")
    assert (answer.status_code, answer.json()["status"]) == (200, "exited")
    assert (await listed(gate, started["process_id"]))["status"] == "completed"


@pytest.mark.parametrize(
    "who", ["proc_unknown", "exec_", "x", "4194304", "99999999999999999999", "1", "0", "%00", "²"]
)
async def test_kill_of_nothing(gate: Gate, who: str) -> None:
    answer = await gate.client.post(f"/execute/kill/{who}")
    assert (answer.status_code, answer.json()["code"]) == (404, "PROCESS_NOT_FOUND"), answer.text


async def test_kill_without_saying_whom(gate: Gate) -> None:
    for answer in (
        await gate.client.delete("/execute/kill"),
        await gate.client.post("/execute/kill", json={}),
        await gate.client.post("/execute/kill?process_id="),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "MISSING_PARAMETER")
    assert (await gate.client.post("/execute/kill", json={"process_id": []})).status_code == 400
    assert (await gate.client.get("/execute/processes/proc_no")).status_code == 404


async def test_processes_of_the_system(gate: Gate) -> None:
    started = await post(gate, "/commands/background", command="sleep", args=["600"])
    body = (await gate.client.get("/processes")).json()
    assert body["count"] == len(body["processes"]) > 1
    mine = next(item for item in body["processes"] if item["pid"] == started["pid"])
    assert mine["process_id"] == started["process_id"]
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert (mine["name"], mine["command"], mine["user"]) == ("sleep", "sleep 600", user)
    assert mine["memory_mb"] > 0
    assert mine["cpu_percent"] >= 0
    await gate.client.post(f"/processes/{started['process_id']}/kill")


async def test_too_many_jobs_are_told_to_wait(gate: Gate) -> None:
    started = []
    try:
        for _ in range(65):
            answer = await gate.client.post("/commands/background", json={"command": "sleep 600"})
            if answer.status_code != 200:
                break
            started.append(answer.json()["process_id"])
        assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert len(started) > 30
    finally:
        for process_id in started:
            await gate.client.post(f"/execute/kill/{process_id}")
    assert (await post(gate, "/commands/background", command="true"))["status"] == "running"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/execute/background", {}),
        ("/execute/background", {"code": "1", "language": "cobol"}),
        ("/execute/background", {"code": "1", "name": "n" * 201}),
        ("/commands/background", {"command": ""}),
        ("/commands/background", {"command": "x", "timeout": 0}),
        ("/commands/background", {"command": "x", "workdir": "/no/such"}),
    ],
)
async def test_bad_fields_are_400(gate: Gate, path: str, body: dict[str, Any]) -> None:
    assert (await gate.client.post(path, json=body)).status_code == 400
