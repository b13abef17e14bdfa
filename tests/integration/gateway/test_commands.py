from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from tests.support.gateway import Gate
from thawbox import guest
from thawbox.errors import GuestFault
from thawbox.gateway import target
from thawbox.gateway.run import execution
from thawbox.guest import Endpoint, GuestError


async def run(gate: Gate, **body: Any) -> dict[str, Any]:
    answer = await gate.client.post("/commands/run", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_shell_style_goes_through_a_shell(gate: Gate) -> None:
    result = await run(gate, command="echo out; echo $X >&2; exit 3", env={"X": "err"})
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("out\n", "err\n", 3)
    assert result["success"] is False
    assert result["command"] == "echo out; echo $X >&2; exit 3"
    assert result["pid"] > 0
    assert result["execution_time"] >= 0
    assert result["timestamp"].endswith("Z")


async def test_exec_style_does_not(gate: Gate) -> None:
    result = await run(gate, command="echo", args=["$HOME", "a b; c"])
    assert (result["stdout"], result["success"]) == ("$HOME a b; c\n", True)
    assert (await run(gate, command="echo", args=[]))["stdout"] == "\n"


@pytest.mark.parametrize("key", ["workdir", "working_dir"])
async def test_working_folder_as_asked(gate: Gate, key: str) -> None:
    assert (await run(gate, command="pwd", **{key: "/usr"}))["stdout"] == "/usr\n"


async def test_workdir_wins_over_working_dir(gate: Gate) -> None:
    assert (await run(gate, command="pwd", workdir="/usr", working_dir="/etc"))["stdout"] == "/usr\n"


async def test_default_folder_is_the_templates_or_else_the_workspace(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await run(gate, command="pwd"))["stdout"] == f"{gate.folder}\n"
    gate.sandboxes.workdir = "/"
    monkeypatch.setattr(target, "WORKSPACE", "/usr")
    assert (await run(gate, command="pwd"))["stdout"] == "/usr\n"
    monkeypatch.setattr(target, "WORKSPACE", "/nonexistent/workspace")
    assert (await run(gate, command="pwd"))["stdout"] == "/\n"


async def test_folder_that_does_not_exist_is_named(gate: Gate) -> None:
    answer = await gate.client.post("/commands/run", json={"command": "pwd", "workdir": "/no/such"})
    body = answer.json()
    assert (answer.status_code, body["code"], body["path"]) == (400, "INVALID_PATH", "/no/such")


async def test_command_that_takes_too_long_is_a_result(gate: Gate) -> None:
    result = await run(gate, command="echo begun; sleep 600", timeout=2)
    assert (result["exit_code"], result["success"], result["timed_out"]) == (124, False, True)
    assert result["stdout"] == "begun\n"
    assert "timed out after 2 s" in result["stderr"]


async def test_program_that_does_not_exist_is_a_result(gate: Gate) -> None:
    result = await run(gate, command="no-such-program", args=[])
    assert result["exit_code"] == 127
    assert "no-such-program" in result["stderr"]


async def test_program_killed_by_a_signal_is_a_result(gate: Gate) -> None:
    result = await run(gate, command="kill -9 $$")
    assert result["success"] is False
    assert result["exit_code"] != 0


async def test_process_that_cannot_be_started_is_a_result(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise GuestError("EAGAIN", "resource temporarily unavailable")

    monkeypatch.setattr(guest, "run", refuse)
    result = await run(gate, command="true")
    assert (result["exit_code"], result["stderr"]) == (127, "resource temporarily unavailable\n")


async def test_endless_output_is_cut_and_said_so(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "OUTPUT_LIMIT", 1000)
    result = await run(gate, command="head -c 100000 /dev/zero | tr '\\0' x")
    assert result["stdout"] == "x" * 1000
    assert result["truncated"] is True
    assert "only the first 1000 bytes" in result["stderr"]
    assert result["exit_code"] == 0


async def test_output_that_is_no_text_is_still_json(gate: Gate) -> None:
    result = await run(gate, command=r"printf 'a\377b'")
    assert result["stdout"] == "a\ufffdb"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": ""},
        {"command": 1},
        {"command": "a\x00b"},
        {"command": "a", "args": "b"},
        {"command": "a", "args": [1]},
        {"command": "a", "args": ["\x00"]},
        {"command": "a", "timeout": 0},
        {"command": "a", "timeout": -1},
        {"command": "a", "timeout": "5"},
        {"command": "a", "timeout": True},
        {"command": "a", "timeout": 1e300},
        {"command": "a", "env": {"A=": "b"}},
        {"command": "a", "env": {"A": 1}},
        {"command": "a", "workdir": "\x00"},
        {"command": "a", "workdir": 5},
    ],
)
async def test_bad_fields_are_400(gate: Gate, body: dict[str, Any]) -> None:
    answer = await gate.client.post("/commands/run", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


OUT_OF_MEMORY = "out of memory: it needed more than its template's memory"


def break_off(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[object]]) -> list[str]:
    """Have the agent of the sandbox break off while it runs something; the list has an entry per run."""
    runs: list[str] = []

    async def die(*_: object, **__: object) -> None:
        runs.append("run")
        await meanwhile()
        raise GuestFault("the connection broke")

    monkeypatch.setattr(guest, "run", die)
    return runs


@pytest.mark.parametrize(("path", "body"), [("/commands/run", {"command": "x"}), ("/execute", {"code": "x"})])
async def test_sandbox_that_ends_under_it_is_a_result(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    runs = break_off(
        monkeypatch, lambda: gate.change(status="error", reason=OUT_OF_MEMORY, slot=None, paused_at=None)
    )
    answer = await gate.client.post(path, json=body)
    result = answer.json()
    assert (answer.status_code, result["exit_code"], result["success"]) == (200, 137, False)
    assert result["stderr"] == f"[the sandbox has ended: {OUT_OF_MEMORY}]\n"
    assert runs == ["run"]
    answer = await gate.client.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "SANDBOX_ENDED")


async def test_sandbox_that_is_taken_away_under_it_is_no_reason_to_repeat(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(monkeypatch, lambda: gate.change(status="stopped"))
    assert (await gate.client.post("/commands/run", json={"command": "x"})).status_code == 409
    for other in ({"status": "paused"}, {"status": "running", "secret": "of another life"}):
        await gate.change(status="running")
        break_off(monkeypatch, partial(gate.change, **other))
        answer = await gate.client.post("/commands/run", json={"command": "x"})
        assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_STATE")
    break_off(monkeypatch, lambda: gate.sandboxes.delete(gate.sandbox))
    assert (await gate.client.post("/commands/run", json={"command": "x"})).status_code == 404


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/commands/run", {"command": "x"}),
    ("POST", "/execute", {"code": "x"}),
    ("POST", "/execute/ipython", {"code": "x"}),
    ("POST", "/commands/background", {"command": "x"}),
    ("POST", "/execute/background", {"code": "x", "language": "bash"}),
    ("POST", "/execute/async", {"code": "x", "language": "bash", "callback_url": "http://8.8.8.8/"}),
    ("POST", "/execute/kill/4242", {}),
    ("PATCH", "/env", {"env_vars": {"A": "b"}}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_what_was_handed_to_an_agent_that_is_silent_is_nothing_to_repeat(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr(execution, "DEATH_NOTED_S", 0.05)
    async with silent_agent() as (address, asked):
        gate.sandboxes.address = address
        answer = await gate.client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "SANDBOX_NOT_RESPONDING")
    assert len(asked) == 1


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_what_no_agent_took_may_be_repeated(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr(execution, "DEATH_NOTED_S", 0.05)
    async with silent_agent() as (address, _):
        pass
    gate.sandboxes.address = address  # where nobody listens any more
    assert (await gate.client.request(method, path, json=body)).status_code == 503


@pytest.mark.parametrize("path", ["/env", "/processes", "/execute/processes", "/files/list?path=/"])
async def test_a_look_at_an_agent_that_is_silent_may_be_repeated(gate: Gate, path: str) -> None:
    async with silent_agent() as (address, _):
        gate.sandboxes.address = address
        assert (await gate.client.get(path)).status_code == 503


@contextlib.asynccontextmanager
async def silent_agent() -> AsyncIterator[tuple[Endpoint, list[bytes]]]:
    """Takes one request per connection, and hangs up without a word."""
    asked: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], "0" * 64), asked
    finally:
        server.close()
