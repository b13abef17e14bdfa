"""Reaps, signals and kills processes inside the sandbox, as process 1 must. Standard library only."""

import _thread
import os
import time

from .wire import OperationError, integer

SIGKILL = 9  # the ``signal`` module costs 1 MB
KEPT_STATUSES = 1024
"""How many exit statuses of detached commands are kept."""


class Child:
    """A process that the agent started. ``detached``: its status is kept for ``status`` requests."""

    __slots__ = ("_notify", "detached", "pid", "started", "status")

    def __init__(self, pid: int, notify: int, detached: bool) -> None:
        self.pid = pid
        self.status: int | None = None
        """As ``waitpid`` gives it, once reaped."""
        self.started = time.monotonic()
        self.detached = detached
        self._notify = notify

    def ended(self, status: int) -> None:
        """Called once by the reaper, with the lock held."""
        self.status = status
        if self._notify >= 0:
            os.close(self._notify)  # a poll of the other end sees it hang up
            self._notify = -1


lock = _thread.allocate_lock()
"""Held while a process is started, reaped or killed, so that a pid looked up under it is not reused meanwhile."""
running: dict[int, Child] = {}
"""Every child that has not been reaped, by pid. Only changed with ``lock`` held."""
_finished: dict[int, int] = {}
"""Exit codes of detached commands, by pid."""
_idle = _thread.allocate_lock()
_idle.acquire()


def kill_session(child: Child) -> None:
    """Send SIGKILL to everything in the child's session, unless the child itself has been reaped already.

    After that another process may have its pid.
    """
    with lock:
        if child.status is not None:
            return
        _kill(child.pid, group=True)
        for _ in range(8):  # processes may fork while this looks for them
            members = [pid for pid in pids() if pid != child.pid and _session(pid) == child.pid]
            if not [pid for pid in members if _kill(pid, group=False)]:
                return


def signal_session(child: Child, number: int) -> None:
    """Send a signal to everything in the child's session, unless the child has been reaped."""
    with lock:
        if child.status is None:
            for pid in pids():
                if _session(pid) == child.pid:
                    try:  # noqa: SIM105
                        os.kill(pid, number)
                    except OSError:
                        pass


def signal_group(child: Child, number: int) -> None:
    """Send a signal to the child's process group, unless it has been reaped."""
    with lock:
        if child.status is None:
            try:  # noqa: SIM105
                os.killpg(child.pid, number)
            except ProcessLookupError:
                pass


def _kill(pid: int, group: bool) -> bool:
    try:
        (os.killpg if group else os.kill)(pid, SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def pids() -> list[int]:
    """The pid of every process in the sandbox."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def kill(pid: int) -> bool:
    """Send SIGKILL to a process: with its session if the agent started it, with its group if it leads one.

    False if there is no such process, or it is process 1 or the agent.
    """
    if pid <= 1 or pid == os.getpid():
        return False
    with lock:
        child = running.get(pid)
    if child is not None:
        kill_session(child)
        return True
    try:
        leads = os.getpgid(pid) == pid
    except ProcessLookupError:
        return False
    return _kill(pid, group=leads)


def status(request: dict[str, object]) -> dict[str, object]:
    """``status``: whether a detached command runs, and its exit code if not.

    Raises:
        OperationError: NO_PROCESS: no detached command has, or recently had, this pid.
    """
    pid = integer(request, "pid", None) or 0
    with lock:
        if (child := running.get(pid)) is not None and child.detached:
            return {"running": True, "code": None}
        if pid not in _finished:
            raise OperationError("NO_PROCESS", f"no detached command has pid {pid}")
        return {"running": False, "code": _finished[pid]}


def exit_code(status: int) -> tuple[int, int | None]:
    """Exit code as in a shell (128 + n after signal n), and the signal or None. ``status`` is of ``waitpid``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, number
    return os.WEXITSTATUS(status), None


def wake_reaper() -> None:
    """Have the reaper look for children again: there is a new one."""
    try:  # noqa: SIM105
        _idle.release()
    except RuntimeError:
        pass  # it has not looked yet


def reap_forever() -> None:
    """Reap every child that ends, orphans too, and notify whoever waits for it. For a thread of its own."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            _idle.acquire()
            continue
        if dead is None:
            continue
        with lock:
            _, status = os.waitpid(dead.si_pid, 0)
            child = running.pop(dead.si_pid, None)
            if child is None:
                continue
            child.ended(status)
            if child.detached:
                _finished[child.pid] = exit_code(status)[0]
                while len(_finished) > KEPT_STATUSES:
                    del _finished[next(iter(_finished))]
