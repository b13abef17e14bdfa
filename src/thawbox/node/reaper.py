"""Collecting sandbox processes when they end.

runsc's sandbox and gofer outlive the command that made them and fall to their nearest subreaper. Some machines'
process 1 looks only every second, and `runsc delete` waits for that; so the server takes them over. It takes
nobody else's children: only those that were announced with ``expect``.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

from thawbox import processes

_PR_SET_CHILD_SUBREAPER = 36
_expected: set[int] = set()


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Become the subreaper, and collect expected processes as they die."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    loop.add_signal_handler(signal.SIGCHLD, _collect)


def expect(pids: Iterable[int]) -> None:
    """Collect these processes when they die. Those that are not ours to collect are forgotten then."""
    _expected.update(pids)
    _collect()


def _collect() -> None:
    for pid in list(_expected):
        try:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                _expected.discard(pid)
        except ChildProcessError:  # another's child: a sandbox that an earlier server started
            _expected.discard(pid)


async def start_and_wait(argv: Sequence[str], *, timeout: float, **popen: Any) -> int:
    """Run a program that enters one of our cgroups; return its exit status.

    Raises:
        TimeoutError: it took longer than ``timeout`` seconds; it has been killed then, as on cancellation.
    """
    child = subprocess.Popen(argv, start_new_session=True, **popen)  # noqa: ASYNC220
    try:
        await asyncio.wait_for(exited(child.pid), timeout)
    finally:
        if child.poll() is None:
            processes.kill_group(child.pid)
            child.wait()
    return int(child.returncode)


async def exited(pid: int) -> None:
    """Return when the process has ended (it may be a zombie then), at once if there is none."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
