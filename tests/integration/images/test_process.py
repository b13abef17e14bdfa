"""Programs that are started to fetch images."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from thawbox.images import process


async def test_output_and_status() -> None:
    lines: list[str] = []
    ended = await process.run(
        ["sh", "-c", "echo out; echo one >&2; printf two >&2; exit 7"], timeout_s=30, line=lines.append
    )
    assert (ended.status, ended.stdout, ended.tail) == (7, b"out\n", ("one", "two"))
    assert lines == ["one", "two"]


async def test_endless_lines_and_output_are_bounded() -> None:
    ended = await process.run(
        ["sh", "-c", "head -c 20000000 /dev/zero; head -c 1000000 /dev/zero | tr '\\0' x >&2"], timeout_s=30
    )
    assert len(ended.stdout) == 16 * 1024 * 1024
    assert len(ended.tail) == 1
    assert len(ended.tail[0]) == 4096


async def test_a_missing_program() -> None:
    with pytest.raises(FileNotFoundError):
        await process.run(["thawbox-no-such-program"], timeout_s=30)


async def test_when_the_time_is_up_everything_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    # The grandchild holds both pipes of output, and would hold the reader.
    script = f"mkfifo {pipe}; (exec 3<>{pipe}; exec sleep 1000) & sleep 1000"
    with pytest.raises(process.TimedOut):
        await process.run(["sh", "-c", script], timeout_s=0.2)


async def test_cancelling_kills(tmp_path: Path) -> None:
    started = asyncio.Event()
    pids: list[str] = []

    def line(text: str) -> None:
        pids.append(text)
        started.set()

    running = asyncio.create_task(
        process.run(["sh", "-c", "echo $$ >&2; sleep 1000"], timeout_s=1000, line=line)
    )
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not Path(f"/proc/{pids[0]}").exists()


def test_nothing_of_the_servers_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAWBOX_DATABASE_URL", "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "x")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    passed = process.plain_environment(MORE="1")
    assert passed["https_proxy"] == "http://proxy.example"
    assert passed["MORE"] == "1"
    assert not {"THAWBOX_DATABASE_URL", "PIP_INDEX_URL"} & set(passed)
