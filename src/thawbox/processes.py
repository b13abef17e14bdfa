"""Starting helper programs from the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import MachineDiskFull, RuntimeFault
from .util import full_disk


def watch_by_pidfd() -> None:
    """Have the running event loop notice the end of programs by file descriptors, where the kernel has them.

    Python before 3.12 starts a thread for each program otherwise, and the loop stands still until that runs: 20 ms
    on a busy machine.
    """
    if sys.version_info < (3, 12):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its exit status (negative: signal) and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout: float = 60,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> Finished:
    """Run ``argv`` to its end and return what it printed.

    The program runs in a session of its own, so a Ctrl-C meant for us does not reach it. When the caller is
    cancelled or ``timeout`` (seconds) is over, the whole process group is killed first.

    Raises:
        RuntimeFault: it could not be started, took too long, or (with ``check``) ended with another status than 0.
        MachineDiskFull: the last, and it said why.
    """
    name = os.path.basename(os.fspath(argv[0]))
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise RuntimeFault(f"{name} cannot be started: {error}") from error
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(stdin), timeout)
    except TimeoutError as error:
        raise RuntimeFault(f"{name} took longer than {timeout:.0f} s") from error
    finally:
        if process.returncode is None:
            kill_group(process.pid)
            await process.wait()
    assert process.returncode is not None
    if check and process.returncode != 0:
        raise fault(f"{name} ended with status {process.returncode}: {tail(stderr or stdout)}")
    return Finished(process.returncode, stdout, stderr)


def fault(sentence: str) -> RuntimeFault:
    """What to raise when a program of the host failed as ``sentence`` says: of its own kind if the disk is full."""
    if not full_disk.is_full_disk(sentence):
        return RuntimeFault(sentence)
    full = MachineDiskFull()
    full.__cause__ = RuntimeFault(sentence)
    return full


def kill_group(pid: int) -> None:
    """Kill the process group that ``pid`` leads, if it is still there."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tail(output: bytes, limit: int = 2000) -> str:
    """The last ``limit`` bytes of some program's output as text."""
    return output[-limit:].decode("utf-8", "replace").strip()
