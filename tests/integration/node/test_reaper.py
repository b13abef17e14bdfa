"""Real processes: started in a group of their own, waited for, and killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from thawbox.node import reaper


async def test_the_exit_status() -> None:
    assert await reaper.start_and_wait(["sh", "-c", "exit 7"], timeout_s=60) == 7


async def test_a_child_that_outlives_the_program_is_not_waited_for(tmp_path: Path) -> None:
    output = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
    try:
        status = await reaper.start_and_wait(
            ["sh", "-c", "sleep 1000 & echo $!"], timeout_s=60, stdout=output
        )
    finally:
        os.close(output)
    child = int((tmp_path / "output").read_text())
    assert status == 0
    os.kill(child, 9)  # raises if it is gone


def script(tmp_path: Path) -> list[str]:
    """A program and a child of it, which say that they run by opening a pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    return ["sh", "-c", f"exec 3> {pipe}; sleep 1000 & echo started >&3; wait"]


def read_to_the_end(pipe: Path) -> str:
    """Returns when nobody holds the pipe any more."""
    with open(pipe) as opened:
        return opened.read()


async def test_what_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    argv = script(tmp_path)
    reading = asyncio.create_task(asyncio.to_thread(read_to_the_end, tmp_path / "pipe"))
    with pytest.raises(TimeoutError):
        await reaper.start_and_wait(argv, timeout_s=1)
    if not reading.done():  # killed before it opened the pipe: let the reader go on
        os.close(os.open(tmp_path / "pipe", os.O_RDWR))
    await asyncio.wait_for(reading, 60)


async def test_what_is_cancelled_is_killed_with_its_children(tmp_path: Path) -> None:
    argv = script(tmp_path)
    running = asyncio.create_task(reaper.start_and_wait(argv, timeout_s=1000))
    with await asyncio.to_thread(open, tmp_path / "pipe") as pipe:
        assert await asyncio.to_thread(pipe.readline) == "started\n"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(pipe.read) == ""


async def test_the_end_of_another_process() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    waiting = asyncio.create_task(reaper.exited(process.pid))
    await asyncio.sleep(0)
    assert not waiting.done()
    process.kill()
    await asyncio.wait_for(waiting, 60)
    process.wait()
