"""Waits for sandbox processes that end (reaps them), and for other processes.

runsc's sandbox and gofer processes outlive the command that started them, and become children of the nearest
subreaper. That is the server: on some machines process 1 reaps only once a second, and `runsc delete` waits for it.
The server reaps only processes that were announced with ``expect``; asyncio waits for its own children.
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
    """Make this process the subreaper of its descendants, and reap expected processes when they end.

    Raises:
        OSError: the kernel does not allow it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    loop.add_signal_handler(signal.SIGCHLD, _reap)


def expect(pids: Iterable[int]) -> None:
    """Reap these processes when they end. Those that are not children of this process are ignored."""
    _expected.update(pids)
    _reap()


def _reap() -> None:
    for pid in list(_expected):
        try:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                _expected.discard(pid)
        except ChildProcessError:  # a sandbox that an earlier server started
            _expected.discard(pid)


async def start_and_wait(argv: Sequence[str], *, timeout_s: float, **popen: Any) -> int:
    """Run a program whose children outlive it; return its exit status. ``popen``: as for ``subprocess.Popen``.

    ``processes.run`` would wait for the children, which inherit the program's output.

    Raises:
        TimeoutError: the program took longer than ``timeout_s``; it has been killed, as on cancellation.
    """
    child = subprocess.Popen(argv, start_new_session=True, **popen)  # noqa: ASYNC220
    try:
        await asyncio.wait_for(exited(child.pid), timeout_s)
    finally:
        if child.poll() is None:
            processes.kill_group(child.pid)
            child.wait()
    return int(child.returncode)


async def exited(pid: int) -> None:
    """Return when the process has ended (it may still be a zombie), or at once if there is no such process."""
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
