from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import thawbox.agent
from tests.support.gateway import Live, frame, frames, say
from thawbox import guest
from thawbox.errors import GuestFault
from thawbox.gateway.run import languages
from thawbox.guest import Endpoint, Event


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "RUNNER", str(Path(thawbox.agent.__file__).parent / "python" / "run.py"))


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


async def test_a_command_s_bytes_pass_as_they_are(live: Live) -> None:
    content = bytes(range(256)) + b"\xc3"
    async with live.connect("/commands/stream") as socket:
        await say(socket, command="cat", args=[], stdin=True, ack=True, encoding="latin-1")
        for piece in (content[:200], content[200:]):
            await say(socket, type="stdin", data=piece.decode("latin-1"))
        await say(socket, type="stdin_eof")
        got = await frames(socket)
    assert text(got, "stdout").encode("latin-1") == content
    assert [item["type"] for item in got if item["type"] not in ("stdout", "ack")] == ["result", "complete"]
    assert sum(item["type"] == "ack" for item in got) == 2


async def test_an_acknowledgement_cuts_no_character(live: Live) -> None:
    line = r"printf '\303'; read -r x; printf '\244'"
    async with live.connect("/commands/stream") as socket:
        await say(socket, command=line, stdin=True, ack=True)
        await say(socket, type="stdin", data="x\n")
        got = await frames(socket)
    assert text(got, "stdout") == "ä"


async def test_input_waits_for_a_command_that_does_not_read(live: Live, agent: Endpoint) -> None:
    """As much as the client may send ahead of the command; the rest is its own to keep."""
    line = f"while [ ! -e {live.gate.folder}/go ]; do sleep 0.01; done; wc -c"
    piece = "x" * 65536
    async with live.connect("/commands/stream") as socket:
        await say(socket, command=line, stdin=True, ack=True)
        await say(socket, type="stdin", data=piece)
        assert (await frame(socket))["type"] == "ack"
        acknowledged = 1
        while True:  # as long as pieces are taken
            await say(socket, type="stdin", data=piece)
            answer = asyncio.create_task(frame(socket))
            for _ in range(200):  # what can move does so while the agent answers others
                await guest.ping(agent)
                if answer.done():
                    break
            else:
                break
            assert (await answer)["type"] == "ack"
            acknowledged += 1
        assert 0 < acknowledged < 1000
        (live.gate.folder / "go").touch()
        assert (await answer)["type"] == "ack"
        await say(socket, type="stdin_eof")
        got = await frames(socket)
    assert text(got, "stdout").strip() == str((acknowledged + 1) * len(piece))


async def test_a_sandbox_that_dies_under_a_command_is_named(live: Live) -> None:
    async with live.connect("/commands/stream") as socket:
        await say(socket, command="echo begun; sleep 60")
        assert (await frame(socket))["data"] == "begun\n"
        await live.gate.change(status="error", reason="out of memory")
        error, last = await frames(socket)
    assert (error["type"], error["code"]) == ("error", "SANDBOX_ENDED")
    assert error["error"] == f"Sandbox {live.gate.sandbox.id} has ended: out of memory."
    assert last == {"type": "complete", "success": False}


async def test_an_agent_that_breaks_off_waits_for_the_reason(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        pid = 1

        def __aiter__(self) -> Gone:
            return self

        async def __anext__(self) -> Event:
            await live.gate.change(status="error", reason="out of memory")
            raise GuestFault("the agent closed the connection")

    @contextlib.asynccontextmanager
    async def broken(*_: Any, **__: Any) -> AsyncIterator[Gone]:
        yield Gone()

    monkeypatch.setattr(guest, "spawn", broken)
    async with live.connect("/commands/stream") as socket:
        await say(socket, command="x")
        error, _ = await frames(socket)
    assert (error["code"], "out of memory" in error["error"]) == ("SANDBOX_ENDED", True)


async def test_command_line_passes_bytes_both_ways(live: Live, tmp_path: Path) -> None:
    """``thaw exec`` without a terminal against the real gateway and agent."""
    content = os.urandom(3 << 20)
    (tmp_path / "input").write_bytes(content)
    host = live.url.replace("ws", "http", 1)
    token = live.gate.token()["Authorization"].split()[1]
    script = (
        "import sys; from thawbox.cli.piped import run_piped\n"
        f"record = {{'public_host': {host!r}, 'auth_token': {token!r}}}\n"
        "sys.exit(run_piped(record, sys.argv[1:], stdin=True, timeout_s=60))"
    )
    with (tmp_path / "input").open("rb") as stdin:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, "/bin/sh", "-c", "tee /dev/stderr; exit 7"),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 7
    assert out == err == content


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
