"""Starts processes inside the sandbox. Part of process 1; standard library only.

``subprocess`` is not used: it would cost 2 MB in every sandbox, and its ``wait`` races with the reaper
(``children``) for the exit status.
"""

import _posixsubprocess
import os

from . import children
from .children import Child
from .users import User

TYPE_CHECKING = False  # typing costs memory


class StartError(Exception):
    """The program could not be started; ``code`` is what a shell would exit with (126 or 127)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


warm_hook: "_WarmHook | None" = None
"""Runs the program in a warm interpreter if one fits (``warm.claim``); set by ``warm.start``."""


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
    """Start ``argv`` in a session of its own; returns it and a descriptor that hangs up when it has been reaped.

    The caller closes the descriptor. ``user`` None: as the agent itself. Every descriptor of the agent is
    close-on-exec: the child gets ``stdio``, those in ``keep`` (under the same number), and nothing else.
    ``fork_exec`` replaces the usual fork; it gets the descriptor to which a failure is written. ``imports`` are modules
    that the program needs: a warm interpreter that has imported them may run it (``warm_hook``).

    Raises:
        StartError: there is no such program (127) or it cannot be run (126).
        OSError: out of processes or descriptors.
    """
    program = _program(argv[0], env.get(b"PATH", b""), cwd)
    if user is not None and user.is_root:
        user = None  # without a change of user the kernel can share the agent's memory until exec (vfork)
    watched, notify = os.pipe()
    if imports and warm_hook is not None:
        warm = _spawn_warm(warm_hook, imports, argv, env, cwd, user, stdio, keep, detached, notify)
        if warm is not None:
            children.wake_reaper()
            return warm, watched
    try:
        report, failure = os.pipe()
        try:
            with children.lock:
                if fork_exec is not None:
                    pid = fork_exec(program, failure)
                else:
                    pid = _fork_exec(argv, program, env, cwd, user, stdio, (report, failure), keep)
                os.close(failure)
                failure = -1
                problem = os.read(report, 4096)
                if not problem:
                    child = Child(pid, notify, detached)
                    children.running[pid] = child
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
        children.wake_reaper()
    if problem:
        os.close(watched)
        raise _start_error(argv[0], problem)
    return child, watched


def _spawn_warm(
    hook: "_WarmHook",
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
    """The warm interpreter that now runs ``argv``; None if none fits."""
    adopted: list[Child] = []

    def adopt(pid: int) -> bool:
        with children.lock:  # nothing is reaped meanwhile
            if _parent(pid) != os.getpid():
                return False
            adopted.append(Child(pid, notify, detached))
            children.running[pid] = adopted[0]
            return True

    try:
        claimed = hook(imports, argv, env, cwd, user, stdio, keep, adopt)
    except OSError:  # out of descriptors; a new process may still find some
        claimed = False
    return adopted[0] if claimed else None


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
        False,  # close_fds: no descriptor of the agent is inheritable
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
    """The file to execute. Looked up here, because a failed ``execve`` costs far more than a ``stat``."""
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


def _start_error(name: bytes, problem: bytes) -> StartError:
    """The error for what ``_posixsubprocess`` reports: ``OSError:<errno in hex>:<where>``."""
    number = int(problem.split(b":", 2)[1] or b"0", 16)
    missing = number in (2, 20)
    return StartError(127 if missing else 126, f"{os.fsdecode(name)}: {os.strerror(number).lower()}")


if TYPE_CHECKING:
    from collections.abc import Callable

    _WarmHook = Callable[
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
