"""The one runner of programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
from pathlib import Path

import pytest

from thawbox import processes
from thawbox.errors import MachineDiskFull, RuntimeFault


async def test_output_and_status() -> None:
    lines: list[str] = []
    ended = await processes.run(
        ["sh", "-c", "echo out; echo one >&2; printf two >&2; exit 7"],
        timeout_s=30,
        check=False,
        line=lines.append,
    )
    assert (ended.status, ended.stdout, ended.tail) == (7, b"out\n", ("one", "two"))
    assert lines == ["one", "two"]


async def test_endless_lines_and_output_are_bounded() -> None:
    ended = await processes.run(
        ["sh", "-c", "head -c 20000000 /dev/zero; head -c 1000000 /dev/zero | tr '\\0' x >&2"], timeout_s=30
    )
    assert len(ended.stdout) == 16 * 1024 * 1024
    assert len(ended.tail) == 1
    assert len(ended.tail[0]) == 4096


async def test_a_failure_says_why() -> None:
    with pytest.raises(RuntimeFault, match=r"^sh ended with status 3: first\nlast$"):
        await processes.run(["sh", "-c", "echo out; echo first >&2; echo last >&2; exit 3"])
    with pytest.raises(RuntimeFault, match=r"^sh ended with status 3: out$"):
        await processes.run(["sh", "-c", "echo out; exit 3"])
    with pytest.raises(MachineDiskFull):
        await processes.run(["sh", "-c", "echo cp: No space left on device >&2; exit 1"])


@pytest.mark.parametrize("lines", [30, 300])
async def test_a_full_disk_is_known_before_a_long_trace(lines: int) -> None:
    """The sentence has the last 2,000 bytes alone; runsc prints its reason first and then where it was."""
    trace = f"for line in $(seq {lines}); do printf '%0200d\\n' 0 >&2; done"
    with pytest.raises(MachineDiskFull):
        await processes.run(
            ["sh", "-c", f"echo write pages.img: no space left on device >&2; {trace}; exit 128"]
        )
    with pytest.raises(RuntimeFault) as caught:
        await processes.run(["sh", "-c", f"echo something else >&2; {trace}; exit 128"])
    assert not isinstance(caught.value, MachineDiskFull)


async def test_standard_input_and_folder(tmp_path: Path) -> None:
    ended = await processes.run(["sh", "-c", "cat; pwd"], stdin=b"x" * 200_000 + b"\n", cwd=tmp_path)
    assert ended.stdout == b"x" * 200_000 + f"\n{tmp_path}\n".encode()
    assert (await processes.run(["cat"])).stdout == b""


async def test_input_that_nobody_reads() -> None:
    assert (await processes.run(["true"], stdin=b"x" * 1_000_000)).status == 0


async def test_what_is_no_program() -> None:
    with pytest.raises(RuntimeFault, match="cannot be started"):
        await processes.run(["true"], cwd=Path("/nonexistent"))


async def test_a_missing_program() -> None:
    with pytest.raises(processes.ProgramMissing, match="thawbox-no-such-program is not installed"):
        await processes.run(["thawbox-no-such-program"], timeout_s=30)


async def test_when_the_time_is_up_everything_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    # The grandchild holds both pipes of output, and would hold the reader.
    script = f"mkfifo {pipe}; (exec 3<>{pipe}; exec sleep 1000) & sleep 1000"
    with pytest.raises(processes.TimedOut):
        await processes.run(["sh", "-c", script], timeout_s=0.2)


async def test_cancelling_kills(tmp_path: Path) -> None:
    started = asyncio.Event()
    pids: list[str] = []

    def line(text: str) -> None:
        pids.append(text)
        started.set()

    running = asyncio.create_task(
        processes.run(["sh", "-c", "echo $$ >&2; sleep 1000"], timeout_s=1000, line=line)
    )
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not Path(f"/proc/{pids[0]}").exists()


_PARENT = """
import asyncio, sys
from thawbox import processes
asyncio.run(processes.run(["sh", "-c", "echo $$ >&2; exec sleep 1000"], line=lambda pid: print(pid, flush=True),
                          die_with_parent=True))
"""


async def test_a_program_dies_with_the_server() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = os.pidfd_open(int(await parent.stdout.readline()))
    try:
        parent.kill()
        await parent.wait()
        ended, _, _ = await asyncio.to_thread(select.select, [child], [], [], 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)
    assert ended


async def test_the_server_s_secrets_are_kept_from_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAWBOX_DATABASE_URL", "secret")
    assert b"secret" not in (await processes.run(["env"])).stdout


def test_nothing_of_the_servers_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAWBOX_DATABASE_URL", "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "x")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    passed = processes.plain_environment(MORE="1")
    assert passed["https_proxy"] == "http://proxy.example"
    assert passed["MORE"] == "1"
    assert not {"THAWBOX_DATABASE_URL", "PIP_INDEX_URL"} & set(passed)
