"""``/execute/ipython`` and ``/jupyter/sessions``, with a stand-in for the kernel's owner."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import thawbox.agent
from tests.support.gateway import Gate
from thawbox.gateway.run import ipython
from thawbox.guest import kernel


@dataclass
class Owner:
    """Listens like ``python/kernel.py``; answers every cell with ``events``."""

    events: list[Any] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.environment = json.loads(await reader.readline())
        question = json.loads(await reader.readline())
        self.asked.append(question)
        status = {"kernel_id": "k", "execution_state": "idle", "connections": 0, "last_activity": 0.5}
        for event in self.events if question["op"] == "execute" else [status]:
            writer.write((event if isinstance(event, str) else json.dumps(event)).encode() + b"\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Owner]:
    if os.geteuid() != 0:
        pytest.skip("the agent asks only a kernel of the sandbox's user, which is root here")
    made = Owner()
    monkeypatch.setattr(kernel, "SOCKET", str(tmp_path / "kernel.sock"))
    server = await asyncio.start_unix_server(made.answer, tmp_path / "kernel.sock")
    async with server:
        yield made


def end(status: str, **fields: Any) -> dict[str, Any]:
    return {"type": "end", "status": status, "seconds": 0.5, "truncated": False, **fields}


async def execute(gate: Gate, **body: Any) -> dict[str, Any]:
    answer = await gate.client.post("/execute/ipython", json={"code": "x", **body})
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def test_events_become_fields(gate: Gate, owner: Owner) -> None:
    owner.events = [
        {"type": "stdout", "text": "a\n"},
        {"type": "stderr", "text": "b\n"},
        {"type": "display", "data": {"image/png": "cGlj", "text/plain": "p"}},
        {"type": "display", "data": {"application/vnd.plotly.v1+json": {"data": []}}},
        {"type": "result", "data": {"text/plain": "15", "text/html": "<b>15</b>"}},
        end("ok"),
    ]
    done = await execute(gate, code="a = 10", timeout=7, env={"A": "1"})
    assert (done["success"], done["exit_code"], done["execution_time"]) == (True, 0, 0.5)
    assert (done["stdout"], done["stderr"], done["result"]) == ("a\n", "b\n", "15")
    assert (done["png"], done["html"], done["json"]) == ("cGlj", "<b>15</b>", {"data": []})
    assert [output["type"] for output in done["rich_outputs"]] == [
        "image/png",
        "application/json",
        "text/html",
    ]
    assert owner.asked == [
        {"op": "execute", "code": "a = 10", "timeout": 7.0, "env": {"A": "1"}, "sandbox": gate.sandbox.id}
    ]


@pytest.mark.parametrize(
    ("status", "exit_code", "timed_out"), [("error", 1, False), ("timeout", 124, True), ("crashed", 1, False)]
)
async def test_ends_that_are_no_success(
    gate: Gate, owner: Owner, status: str, exit_code: int, timed_out: bool
) -> None:
    owner.events = [end(status)]
    done = await execute(gate)
    assert (done["success"], done["exit_code"], done["timed_out"]) == (False, exit_code, timed_out)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{"type": "stdout"}],
        [{"type": "other"}],
        ["[]"],
        ["nonsense"],
        ["[" * 100_000],
        [{"type": "result", "data": 7}, end("ok", seconds="x")],
        [{"type": ["stdout"]}],
        [{"type": "end", "status": {}, "seconds": -1}],
    ],
    ids=str,
)
async def test_hostile_owner_is_a_result_and_no_fault(gate: Gate, owner: Owner, events: list[Any]) -> None:
    owner.events = events
    assert (await gate.client.post("/execute/ipython", json={"code": "x"})).status_code == 200


async def test_sessions(gate: Gate, owner: Owner) -> None:
    for path in ("/jupyter/sessions", "/jupyter/status"):
        said = (await gate.client.get(path)).json()
        assert said["count"] == 1
        assert said["sessions"] == [
            {
                "kernel_id": "k",
                "execution_state": "idle",
                "connections": 0,
                "last_activity": "1970-01-01T00:00:00.500Z",
            }
        ]


async def test_without_a_kernel(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SOCKET", str(tmp_path / "nobody.sock"))
    monkeypatch.setattr(kernel, "PROGRAM", str(Path(thawbox.agent.__file__).parent / "python" / "kernel.py"))
    assert (await gate.client.get("/jupyter/sessions")).json()["sessions"] == []
    done = await execute(gate, env={"PATH": "/usr/bin"})
    assert (done["success"], done["exit_code"]) == (False, 127)
    assert "pip3 install ipykernel" in done["stderr"]


async def test_long_code_is_refused(gate: Gate, owner: Owner) -> None:
    answer = await gate.client.post("/execute/ipython", json={"code": "x" * (ipython.CODE_MAX + 1)})
    assert (answer.status_code, owner.asked) == (413, [])
