from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

import thawbox.guest
from thawbox.gateway import languages

from .conftest import Live, frame, frames, say


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "RUNNER", str(Path(thawbox.guest.__file__).parent / "python" / "run.py"))


def text(got: list[dict[str, Any]], kind: str) -> str:
    return "".join(item["data"] for item in got if item["type"] == kind)


async def stream(live: Live, path: str, **first: Any) -> list[dict[str, Any]]:
    async with live.connect(path) as socket:
        await say(socket, **first)
        got = await frames(socket)
    assert socket.close_code == 1000
    assert got[-1]["type"] == "complete"
    return got


@pytest.mark.parametrize("path", ["/execute/stream", "/stream"])
async def test_code(live: Live, path: str) -> None:
    source = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1"
    got = await stream(live, path, type="execute", code=source, language="python")
    assert (text(got, "stdout"), text(got, "stderr")) == ("out\n", "err\n")
    result = got[-2]
    assert (result["type"], result["exit_code"], result["result"]) == ("result", 0, "2")
    assert result["execution_time"] > 0
    assert all(item["timestamp"].endswith("Z") for item in got[:-1])
    assert got[-1] == {"type": "complete", "success": True}


async def test_output_comes_while_it_runs(live: Live) -> None:
    async with live.connect("/execute/stream") as socket:
        source = f"import os, time\nprint('begun')\nwhile not os.path.exists('{live.gate.folder}/go'): time.sleep(0.01)"
        await say(socket, type="execute", code=source)
        assert (await frame(socket))["data"] == "begun\n"
        (live.gate.folder / "go").touch()
        assert (await frames(socket))[-1]["success"] is True


async def test_failures_and_time_over(live: Live) -> None:
    got = await stream(live, "/execute/stream", type="execute", code="1/0")
    assert "ZeroDivisionError" in text(got, "stderr")
    assert (got[-2]["exit_code"], got[-1]["success"]) == (1, False)
    got = await stream(live, "/execute/stream", type="execute", code="while True: pass", timeout=0.5)
    assert "timed out after 0.5 s" in text(got, "stderr")
    assert (got[-2]["exit_code"], got[-1]["success"]) == (124, False)


async def test_language_that_is_not_there(live: Live, tmp_path: Path) -> None:
    got = await stream(
        live, "/execute/stream", type="execute", code="1", language="js", env={"PATH": str(tmp_path)}
    )
    assert "This template has no javascript" in text(got, "stderr")
    assert (got[-2]["exit_code"], got[-1]["success"]) == (127, False)


@pytest.mark.parametrize("kind", ["run", "execute"])
async def test_commands(live: Live, kind: str) -> None:
    got = await stream(live, "/commands/stream", type=kind, command="echo $X; pwd; exit 3", env={"X": "1"})
    assert text(got, "stdout") == f"1\n{live.gate.folder}\n"
    assert (got[-2]["exit_code"], got[-1]["success"]) == (3, False)
    got = await stream(live, "/commands/stream", type=kind, command="echo", args=["a b"], workdir="/usr")
    assert text(got, "stdout") == "a b\n"


async def test_a_command_can_be_typed_to(live: Live) -> None:
    async with live.connect("/commands/stream") as socket:
        await say(socket, type="run", command="cat", args=[], stdin=True)
        await say(socket, type="stdin", data="hällo")
        assert (await frame(socket))["data"] == "hällo"
        await say(socket, type="stdin_eof")
        assert (await frames(socket))[-1]["success"] is True


async def test_a_client_that_leaves_ends_what_it_started(live: Live) -> None:
    async with live.connect("/commands/stream") as socket:
        await say(socket, type="run", command="sleep 600 & echo $!; wait")
        pid = int((await frame(socket))["data"])
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/execute/stream", {"type": "execute"}),
        ("/execute/stream", {"type": "other", "code": "1"}),
        ("/execute/stream", {"type": "execute", "code": "1", "language": "cobol"}),
        ("/execute/stream", {"type": "execute", "code": "1", "workdir": "/no/such"}),
        ("/commands/stream", {"type": "run", "command": ""}),
        ("/commands/stream", {"type": "run", "command": "x", "env": {"": ""}}),
    ],
)
async def test_mistakes_are_told_and_completed(live: Live, path: str, first: dict[str, Any]) -> None:
    got = await stream(live, path, **first)
    assert (got[0]["type"], got[-1]["success"]) == ("error", False)
    assert got[0]["code"] in ("INVALID_REQUEST", "INVALID_PATH")
