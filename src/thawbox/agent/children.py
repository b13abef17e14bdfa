"""Starting, ending and reaping processes inside the guest, as process 1 must.

Runs inside, standard library only. ``subprocess`` is not used: it would cost 2 MB in every sandbox, and its
``wait`` races with the reaper for the exit status.
"""

import _posixsubprocess
import _thread
import os
import time

from .users import User
from .wire import Refused, integer

TYPE_CHECKING = False  # typing costs memory

SIGKILL = 9  # the ``signal`` module costs 1 MB
KEPT_STATUSES = 1024
"""How many exit statuses of detached commands we remember."""


class StartError(Exception):
    """The program could not be started; ``code`` is what a shell would exit with (126 or 127)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Child:
    """A process that we started and that has not been reaped, or whose status nobody has taken yet."""

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
            os.close(self._notify)  # whoever polls the other end sees it hang up
            self._notify = -1


_lock = _thread.allocate_lock()
"""Held while a process is started, reaped or killed: a pid that we look up under it cannot be re-used
meanwhile."""
_children: dict[int, Child] = {}
_finished: dict[int, int] = {}
_idle = _thread.allocate_lock()
_idle.acquire()
lender: "_Lender | None" = None
"""Has a process that waits already run a program, if it can (``warm.claim``)."""


def spawn(
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    stdio: tuple[int, int, int],
    detached: bool = False,
    keep: tuple[int, ...] = (),
    fork_exec: "_ForkExec | None" = None,
    imports: tuple[str, ...] = (),
) -> tuple[Child, int]:
    """Start ``argv`` in a session of its own; returns it and a descriptor that hangs up when it has been
    reaped.

    The descriptor is the caller's to close. ``user`` None: as the agent itself. Every descriptor of the agent
    is close-on-exec, so the child gets ``stdio``, what is in ``keep`` (under the same number), and nothing else.
    ``fork_exec`` does the fork in another way; it gets the descriptor to which a failure is written. With ``imports``,
    modules that it needs, a process that has them and waits may run it (``lender``).

    Raises:
        StartError: there is no such program (127) or it cannot be run (126).
        OSError: no process or descriptor could be had.
    """
    program = _program(argv[0], env.get(b"PATH", b""), cwd)
    if user is not None and user.is_root:
        user = None  # as we are; without a change of user the kernel can share our memory until exec (vfork)
    watched, notify = os.pipe()
    if imports and lender is not None:
        borrowed = _borrow(lender, imports, argv, env, cwd, user, stdio, keep, detached, notify)
        if borrowed is not None:
            _wake_reaper()
            return borrowed, watched
    try:
        report, failure = os.pipe()
        try:
            with _lock:
                if fork_exec is not None:
                    pid = fork_exec(program, failure)
                else:
                    pid = _fork_exec(argv, program, env, cwd, user, stdio, (report, failure), keep)
                os.close(failure)
                failure = -1
                said = os.read(report, 4096)
                if not said:
                    child = Child(pid, notify, detached)
                    _children[pid] = child
                    notify = -1
        finally:
            os.close(report)
            if failure >= 0:
                os.close(failure)
    except BaseException:
        os.close(watched)
        raise
    finally:
        if notify >= 0:
            os.close(notify)
        _wake_reaper()
    if said:
        os.close(watched)
        raise _start_error(argv[0], said)
    return child, watched


def _borrow(
    lend: "_Lender",
    imports: tuple[str, ...],
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    stdio: tuple[int, int, int],
    keep: tuple[int, ...],
    detached: bool,
    notify: int,
) -> Child | None:
    """A process that waited, and now runs ``argv``."""
    adopted: list[Child] = []

    def adopt(pid: int) -> bool:
        with _lock:  # nothing is reaped meanwhile
            if _parent(pid) != os.getpid():
                return False
            adopted.append(Child(pid, notify, detached))
            _children[pid] = adopted[0]
            return True

    try:
        lent = lend(imports, argv, env, cwd, user, stdio, keep, adopt)
    except OSError:  # out of descriptors; perhaps not any more
        lent = False
    return adopted[0] if lent else None


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return -1


def _fork_exec(
    argv: list[bytes],
    program: bytes,
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    stdio: tuple[int, int, int],
    report: tuple[int, int],
    keep: tuple[int, ...],
) -> int:
    arguments = (
        argv,
        [program],
        False,  # close_fds: nothing of ours is inheritable
        tuple(sorted((report[1], *keep))),  # made inheritable in the child alone
        cwd,
        [name + b"=" + value for name, value in env.items()],
        *(stdio[0], -1, -1, stdio[1], -1, stdio[2]),
        *report,
        True,  # restore the signals that Python ignores
        True,  # setsid
        -1,
        user.gid if user else None,
        user.groups if user else None,
        user.uid if user else None,
        0o022,
        None,
    )
    try:
        return _posixsubprocess.fork_exec(*arguments, True)  # type: ignore[call-arg, arg-type, unused-ignore]
    except TypeError:  # newer interpreters have no switch for vfork
        return _posixsubprocess.fork_exec(*arguments)  # type: ignore[call-arg, arg-type, unused-ignore]


def _program(name: bytes, path: bytes, cwd: str) -> bytes:
    """The file to execute. We look it up ourselves: each failed ``execve`` is far dearer than a ``stat``."""
    if b"/" in name:
        return name
    found = find(name, path, cwd)
    if found is None:
        raise StartError(127, f"{os.fsdecode(name)}: command not found")
    if not os.stat(found).st_mode & 0o111:
        raise StartError(126, f"{os.fsdecode(found)}: permission denied")
    return found


def find(name: bytes, path: bytes, cwd: str = "/") -> bytes | None:
    """The first executable file ``name`` in ``path``; else the last one there that is not executable."""
    found = None
    for folder in path.split(b":"):
        candidate = os.path.join(os.fsencode(cwd), folder, name)
        try:
            state = os.stat(candidate)
        except OSError:
            continue
        if state.st_mode & 0o170000 == 0o100000:
            if state.st_mode & 0o111:
                return candidate
            found = candidate
    return found


def _start_error(name: bytes, said: bytes) -> StartError:
    """What ``_posixsubprocess`` reports: ``OSError:<errno in hex>:<where>``."""
    number = int(said.split(b":", 2)[1] or b"0", 16)
    missing = number in (2, 20)
    return StartError(127 if missing else 126, f"{os.fsdecode(name)}: {os.strerror(number).lower()}")


def kill_session(child: Child) -> None:
    """SIGKILL to everything in the child's session, unless the child itself has been reaped already.

    After that its number may belong to somebody else.
    """
    with _lock:
        if child.status is not None:
            return
        _kill(child.pid, group=True)
        for _ in range(8):  # what was forked while we looked
            members = [pid for pid in pids() if pid != child.pid and _session(pid) == child.pid]
            if not [pid for pid in members if _kill(pid, group=False)]:
                return


def signal_session(child: Child, number: int) -> None:
    """A signal to everything in the child's session, unless the child has been reaped."""
    with _lock:
        if child.status is None:
            for pid in pids():
                if _session(pid) == child.pid:
                    try:  # noqa: SIM105
                        os.kill(pid, number)
                    except OSError:
                        pass


def signal_group(child: Child, number: int) -> None:
    """A signal to the child's process group, unless it has been reaped."""
    with _lock:
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
    """Every process of the guest."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def kill(pid: int) -> bool:
    """SIGKILL to a process: with its session if we started it, with its group if it leads one.

    False if there is no such process. Process 1 and the agent are none that one may kill.
    """
    if pid <= 1 or pid == os.getpid():
        return False
    with _lock:
        child = _children.get(pid)
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
        Refused: NO_PROCESS: no detached command has, or recently had, this pid.
    """
    pid = integer(request, "pid", None) or 0
    with _lock:
        if (child := _children.get(pid)) is not None and child.detached:
            return {"running": True, "code": None}
        if pid not in _finished:
            raise Refused("NO_PROCESS", f"no detached command has pid {pid}")
        return {"running": False, "code": _finished[pid]}


def exit_code(status: int) -> tuple[int, int | None]:
    """Exit code as a shell gives it (128 + n after signal n), and the signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, number
    return os.WEXITSTATUS(status), None


def _wake_reaper() -> None:
    try:  # noqa: SIM105
        _idle.release()
    except RuntimeError:
        pass  # it has been told already


def reap_forever() -> None:
    """The reaper's thread: takes every dead child, ours or orphaned, and tells whoever waits for it."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            _idle.acquire()
            continue
        if dead is None:
            continue
        with _lock:
            _, status = os.waitpid(dead.si_pid, 0)
            child = _children.pop(dead.si_pid, None)
            if child is None:
                continue
            child.ended(status)
            if child.detached:
                _finished[child.pid] = exit_code(status)[0]
                while len(_finished) > KEPT_STATUSES:
                    del _finished[next(iter(_finished))]


if TYPE_CHECKING:
    from collections.abc import Callable

    _Lender = Callable[
        [
            tuple[str, ...],
            list[bytes],
            dict[bytes, bytes],
            str,
            User | None,
            tuple[int, int, int],
            tuple[int, ...],
            Callable[[int], bool],
        ],
        bool,
    ]
    _ForkExec = Callable[[bytes, int], int]
