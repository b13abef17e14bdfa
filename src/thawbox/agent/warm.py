"""``warm``: interpreters that have imported modules and wait for code. Part of process 1; standard library only.

``python/warm.py`` is the fork server, whose children wait. ``spawn`` calls ``claim`` whenever it starts a program that
imports something. If no child fits, the program is started as usual.

The fork server may die like any process of the sandbox. A ``claim`` that finds it dead starts another one in the
background.
"""

import _socket
import _thread
import os
import select
import time

from . import children, machine, protocol, spawn
from .fork_server import ForkServerSpec
from .program import RESULT_FD, program_of
from .users import User
from .wire import OperationError, integer

TYPE_CHECKING = False  # typing costs memory

COUNT = 2
"""Children that wait, unless the request has a number."""
START_SECONDS = 120.0
ANSWER_SECONDS = 0.5
"""How long an idle child may take to answer; after a thaw its pages are loaded first."""
MESSAGE_MAX = 128 * 1024
"""Bytes of a claim; a program with a larger environment gets a new interpreter."""
RESTARTS_MAX = 5
"""After so many fork servers in a row that died within ``LASTING_SECONDS``, no other is started."""
RESTART_PAUSE_SECONDS = 1.0
"""Pause before the second attempt in a row; four times as long before each further one."""
LASTING_SECONDS = 60.0


class _ForkServer:
    """The process of which all warm interpreters are forks, and the socket and pipe to them."""

    def __init__(self) -> None:
        self.claims, self.child_claims = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.idle, self.child_idle = os.pipe()
        os.set_blocking(self.idle, False)
        self.claims.setblocking(False)
        self.tokens = 0
        """Idle children: bytes of the idle pipe that have been read and not used for a claim."""
        self.process: children.Child | None = None
        self.ready = 0.0
        """When its children began to wait, on the monotonic clock."""
        self.resident = 0
        """Bytes of memory that the process used then."""

    def close(self) -> None:
        """End the children that wait. The caller holds the lock."""
        self.claims.close()
        os.close(self.idle)
        self.idle = -1


class _Restarts:
    """State of starting again."""

    running = False
    failed = 0
    """Fork servers in a row that died within ``LASTING_SECONDS``."""
    not_before = 0.0


_spec: ForkServerSpec | None = None
_server: _ForkServer | None = None
_lock = _thread.allocate_lock()


def start(request: dict[str, object], shared: dict[str, str], root: str) -> dict[str, object]:
    """Start the fork server: ``argv``, which ends with ``warm.py``, for ``modules``. Returns when its children wait.

    ``memory`` is what the sandbox may use, bytes.

    Raises:
        OperationError: WARM_FAILED: it ended, or takes too long; with its error output. INVALID; as ``program_of``.
        UnknownUser: of ``users``.
    """
    global _spec, _server
    modules = request.get("modules")
    if not isinstance(modules, list) or not all(isinstance(name, str) and name for name in modules):
        raise OperationError("INVALID", "modules must be a list of names")
    program = program_of(request, shared, root)
    interpreter = spawn.find(program.argv[0], program.env.get(b"PATH", b""), program.cwd)
    if interpreter is None:
        raise OperationError("WARM_FAILED", f"{os.fsdecode(program.argv[0])}: command not found")
    count = integer(request, "count", COUNT) or COUNT
    spec = ForkServerSpec(program, interpreter, modules, count, integer(request, "memory", None))
    _server = _started(spec)
    _spec = spec
    spawn.warm_hook = claim
    return {"children": count}


def _started(spec: ForkServerSpec) -> _ForkServer:
    """A fork server whose children wait.

    Raises:
        OperationError: WARM_FAILED.
    """
    made = _ForkServer()
    program = spec.program
    fds = (made.child_claims.fileno(), made.child_idle)
    argv = [
        *program.argv,
        *(str(number).encode() for number in (*fds, spec.count)),
        *map(os.fsencode, spec.modules),
    ]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    output, child_output = os.pipe()
    try:
        child, watched = spawn.spawn(
            argv, program.env, program.cwd, program.user, (null, null, child_output), detached=True, keep=fds
        )
    except (spawn.StartError, OSError) as error:
        os.close(output)
        made.close()
        raise OperationError("WARM_FAILED", str(error)) from None
    finally:
        made.child_claims.close()
        os.close(made.child_idle)
        os.close(null)
        os.close(child_output)
    try:
        if not _wait_for(made, watched, spec.count):
            children.kill_session(child)
            made.close()
            os.set_blocking(output, False)
            raise OperationError("WARM_FAILED", _all_of(output) or f"not ready after {START_SECONDS:g} s")
    finally:
        os.close(output)
        os.close(watched)
    made.process, made.ready, made.resident = child, time.monotonic(), _resident(child.pid)
    return made


def _wait_for(made: _ForkServer, watched: int, count: int) -> bool:
    """Whether ``count`` children have begun to wait."""
    deadline = time.monotonic() + START_SECONDS
    while made.tokens < count:
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        poller.register(made.idle, select.POLLIN)
        ready = dict(poller.poll(max(0, int((deadline - time.monotonic()) * 1000))))
        if not ready or watched in ready:
            return False
        made.tokens += len(os.read(made.idle, 64))
    return True


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _all_of(output: int) -> str:
    try:
        return os.read(output, 65536).decode("utf-8", "replace").strip()[-4000:]
    except BlockingIOError:
        return ""


def _restart_if_dead(spec: ForkServerSpec, server: _ForkServer) -> None:
    """Start another fork server in the background if this one is dead, unless that has failed too often or just now."""
    if server.process is None or server.process.status is None or _Restarts.running:
        return
    with _lock:
        now = time.monotonic()
        if (
            _Restarts.running
            or server is not _server
            or _Restarts.failed >= RESTARTS_MAX
            or now < _Restarts.not_before
        ):
            return
        _Restarts.running = True
        _Restarts.not_before = now + RESTART_PAUSE_SECONDS
    try:
        if not _has_room(spec, server.resident):
            raise MemoryError
        _thread.start_new_thread(_restart, (spec, server))
    except (OSError, RuntimeError, MemoryError):  # a later claim tries again
        _Restarts.running = False


def _has_room(spec: ForkServerSpec, resident: int) -> bool:
    """Whether memory for two such processes is free: another fork server, and the program that the claim is for."""
    if spec.memory is None:
        return True
    used = machine.usage()["memory_used"]
    return isinstance(used, int) and used + 2 * resident <= spec.memory


def _restart(spec: ForkServerSpec, dead: _ForkServer) -> None:
    """Replace ``dead`` by a new fork server. For a thread of its own."""
    global _server
    try:
        lasted = time.monotonic() - dead.ready >= LASTING_SECONDS
        _Restarts.failed = 1 if lasted else _Restarts.failed + 1
        dead.ready = float("inf")  # counts once
        made = _started(spec)
        with _lock:
            _server = made
            dead.close()
    except (OperationError, OSError):
        pass  # programs get new interpreters; after the pause a claim tries again
    finally:
        _Restarts.not_before = time.monotonic() + RESTART_PAUSE_SECONDS * 4 ** (_Restarts.failed - 1)
        _Restarts.running = False


def claim(
    imports: tuple[str, ...],
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    stdio: tuple[int, int, int],
    keep: tuple[int, ...],
    adopt: "_Adopt",
) -> bool:
    """Run ``argv`` in a waiting child if the effect is the same as in a new process, and faster. False: it is not.

    It is faster if it saves an import: a fork of a large process copies what it touches, 2 MB at a time, and so takes
    longer than a new interpreter that imports nothing.

    ``adopt(pid)`` is called before the child runs ``argv``; it returns whether the child is one of the agent's.
    """
    server, spec = _server, _spec
    if (
        server is None
        or spec is None
        or spec.top_level.isdisjoint(imports)
        or not spec.can_run(argv, env, cwd, user, keep)
    ):
        return False
    _restart_if_dead(spec, server)
    if not _take_token(server):
        return False
    clean = {name: value for name, value in env.items() if name != RESULT_FD.encode()}
    message = protocol.encode_json(
        {"env": {os.fsdecode(name): os.fsdecode(value) for name, value in clean.items()}, "cwd": cwd}
    )
    if len(message) > MESSAGE_MAX:
        server.tokens += 1
        return False
    agent_end, child_end = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        fds = b"".join(fd.to_bytes(4, "little") for fd in (*stdio, child_end.fileno(), *keep))
        try:
            server.claims.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        except OSError:
            return False
        child_end.close()
        agent_end.settimeout(ANSWER_SECONDS)
        try:
            pid = int(agent_end.recv(32))
        except (OSError, ValueError):
            return False
        if not adopt(pid):
            return False
        try:  # noqa: SIM105
            agent_end.send(b"g")
        except OSError:
            pass  # it died meanwhile, and is reported like any child that dies
        return True
    finally:
        child_end.close()
        agent_end.close()


def _take_token(server: _ForkServer) -> bool:
    with _lock:
        if not server.tokens:
            try:
                server.tokens = len(os.read(server.idle, 64))
            except OSError:  # no child is idle, or the pipe was closed meanwhile
                return False
        if server.tokens:
            server.tokens -= 1
            return True
        return False


if TYPE_CHECKING:
    from collections.abc import Callable

    _Adopt = Callable[[int], bool]
