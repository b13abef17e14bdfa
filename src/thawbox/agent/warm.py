"""``warm``: interpreters that have imported modules already and wait for code. Runs inside, standard library only.

``python/warm.py`` says how they work. Here is who claims one: ``children.spawn`` asks ``claim`` whenever it starts a
program, and gets the process that runs it, or nothing; then the program is started as usual.

The first process is as mortal as any of the sandbox's. A claim that finds it dead has another started aside.
"""

import _socket
import _thread
import os
import select
import time

from . import children, machine, protocol
from .program import RESULT_FD, Program, program_of
from .users import User
from .wire import Refused, integer

TYPE_CHECKING = False  # typing costs memory

COUNT = 2
START_SECONDS = 120.0
ANSWER_SECONDS = 0.5
"""How long an idle child may take to answer; a frozen one needs its pages first."""
MESSAGE_MAX = 128 * 1024
"""A larger environment starts a new interpreter."""
_EARLY = (
    *("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "GOTO_", "BLIS_"),
    *("MPL", "MATPLOTLIB", "TZ", "LANGUAGE", "VIRTUAL_ENV", "CUDA_", "XDG_"),
)
"""Variables that are read when a program or a usual module starts, and cannot be set later."""


RESTARTS_MAX = 5
"""First processes in a row that did not last for ``LASTING_SECONDS``; after them no other is started."""
RESTART_PAUSE_SECONDS = 1.0
"""Until the second attempt of a row; four times as long before each further one."""
LASTING_SECONDS = 60.0


class _Plan:
    """What the first process is to be, as often as it is started."""

    def __init__(
        self, program: Program, file: bytes, modules: list[str], count: int, memory: int | None
    ) -> None:
        self.program = program
        self.file = file
        """The interpreter's."""
        self.runner = os.path.join(os.path.dirname(program.argv[-1]), b"run.py")
        self.modules = modules
        self.top_level = frozenset(name.partition(".")[0] for name in modules)
        self.count = count
        self.memory = memory
        """Bytes that the sandbox may have; None: unknown."""


class _Warm:
    """The first process, of which all others are forks, and the ways to them."""

    def __init__(self) -> None:
        self.claims, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.idle, self.idle_theirs = os.pipe()
        os.set_blocking(self.idle, False)
        self.claims.setblocking(False)
        self.tokens = 0
        """Bytes of the idle pipe that have been read, and not spent."""
        self.first: children.Child | None = None
        self.ready = 0.0
        """When it was, on the monotonic clock."""
        self.resident = 0
        """Bytes of memory that it had then."""

    def close(self) -> None:
        """Those that wait end. With the lock held."""
        self.claims.close()
        os.close(self.idle)
        self.idle = -1


class _Restarts:
    """How starting again goes."""

    running = False
    failed = 0
    """First processes in a row that did not last."""
    not_before = 0.0


_plan: _Plan | None = None
_warm: _Warm | None = None
_lock = _thread.allocate_lock()


def start(request: dict[str, object], shared: dict[str, str], root: str) -> dict[str, object]:
    """Run the program ``argv``, which ends with ``warm.py``, for ``modules``; returns when children wait.

    ``memory`` is what the sandbox may have, bytes.

    Raises:
        Refused: WARM_FAILED: it ended, or takes too long; with what it said. INVALID; as ``program_of``.
        UnknownUser: of ``users``.
    """
    global _plan, _warm
    modules = request.get("modules")
    if not isinstance(modules, list) or not all(isinstance(name, str) and name for name in modules):
        raise Refused("INVALID", "modules must be a list of names")
    program = program_of(request, shared, root)
    file = children.find(program.argv[0], program.env.get(b"PATH", b""), program.cwd)
    if file is None:
        raise Refused("WARM_FAILED", f"{os.fsdecode(program.argv[0])}: command not found")
    count = integer(request, "count", COUNT) or COUNT
    plan = _Plan(program, file, modules, count, integer(request, "memory", None))
    _warm = _started(plan)
    _plan = plan
    children.lender = claim
    return {"children": count}


def _started(plan: _Plan) -> _Warm:
    """A first process whose children wait.

    Raises:
        Refused: WARM_FAILED.
    """
    made = _Warm()
    program = plan.program
    fds = (made.theirs.fileno(), made.idle_theirs)
    argv = [
        *program.argv,
        *(str(number).encode() for number in (*fds, plan.count)),
        *map(os.fsencode, plan.modules),
    ]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    said, say = os.pipe()
    try:
        child, watched = children.spawn(
            argv, program.env, program.cwd, program.user, (null, null, say), detached=True, keep=fds
        )
    except (children.StartError, OSError) as error:
        os.close(said)
        made.close()
        raise Refused("WARM_FAILED", str(error)) from None
    finally:
        made.theirs.close()
        os.close(made.idle_theirs)
        os.close(null)
        os.close(say)
    try:
        if not _wait_for(made, watched, plan.count):
            children.kill_session(child)
            made.close()
            os.set_blocking(said, False)
            raise Refused("WARM_FAILED", _all_of(said) or f"not ready after {START_SECONDS:g} s")
    finally:
        os.close(said)
        os.close(watched)
    made.first, made.ready, made.resident = child, time.monotonic(), _resident(child.pid)
    return made


def _wait_for(made: _Warm, watched: int, count: int) -> bool:
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


def _all_of(said: int) -> str:
    try:
        return os.read(said, 65536).decode("utf-8", "replace").strip()[-4000:]
    except BlockingIOError:
        return ""


def _look_after(plan: _Plan, warm: _Warm) -> None:
    """Have another first process started if this one is dead, unless that has failed too often or just now."""
    if warm.first is None or warm.first.status is None or _Restarts.running:
        return
    with _lock:
        now = time.monotonic()
        if (
            _Restarts.running
            or warm is not _warm
            or _Restarts.failed >= RESTARTS_MAX
            or now < _Restarts.not_before
        ):
            return
        _Restarts.running = True
        _Restarts.not_before = now + RESTART_PAUSE_SECONDS
    try:
        if not _has_room(plan, warm.resident):
            raise MemoryError
        _thread.start_new_thread(_restart, (plan, warm))
    except (OSError, RuntimeError, MemoryError):  # later, perhaps
        _Restarts.running = False


def _has_room(plan: _Plan, resident: int) -> bool:
    """Whether two more such processes have room: another first one, and what the claim starts instead."""
    if plan.memory is None:
        return True
    used = machine.usage()["memory_used"]
    return isinstance(used, int) and used + 2 * resident <= plan.memory


def _restart(plan: _Plan, dead: _Warm) -> None:
    """In a thread of its own: put another first process into the place of ``dead``."""
    global _warm
    try:
        lasted = time.monotonic() - dead.ready >= LASTING_SECONDS
        _Restarts.failed = 1 if lasted else _Restarts.failed + 1
        dead.ready = float("inf")  # counts once
        made = _started(plan)
        with _lock:
            _warm = made
            dead.close()
    except (Refused, OSError):
        pass  # new interpreters serve; and after the pause a claim has it tried again
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
    """Have a waiting child run ``argv`` if that means the same as a new process, and is faster; False: start one.

    It is faster if it saves an import: a fork of a large process copies what it touches, 2 MB at a time, and so takes
    longer than a new interpreter that imports nothing.

    ``adopt(pid)`` is told its number before it runs, and says whether it is a child of ours.
    """
    warm, plan = _warm, _plan
    if (
        warm is None
        or plan is None
        or plan.top_level.isdisjoint(imports)
        or not _means_the_same(plan, argv, env, cwd, user, keep)
    ):
        return False
    _look_after(plan, warm)
    if not _take_token(warm):
        return False
    clean = {name: value for name, value in env.items() if name != RESULT_FD.encode()}
    message = protocol.encode_json(
        {"env": {os.fsdecode(name): os.fsdecode(value) for name, value in clean.items()}, "cwd": cwd}
    )
    if len(message) > MESSAGE_MAX:
        warm.tokens += 1
        return False
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        fds = b"".join(fd.to_bytes(4, "little") for fd in (*stdio, theirs.fileno(), *keep))
        try:
            warm.claims.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        except OSError:
            return False
        theirs.close()
        ours.settimeout(ANSWER_SECONDS)
        try:
            pid = int(ours.recv(32))
        except (OSError, ValueError):
            return False
        if not adopt(pid):
            return False
        try:  # noqa: SIM105
            ours.send(b"g")
        except OSError:
            pass  # it died meanwhile, and is reported like any child that does
        return True
    finally:
        theirs.close()
        ours.close()


def _take_token(warm: _Warm) -> bool:
    with _lock:
        if not warm.tokens:
            try:
                warm.tokens = len(os.read(warm.idle, 64))
            except OSError:  # none, or closed meanwhile
                return False
        if warm.tokens:
            warm.tokens -= 1
            return True
        return False


def _means_the_same(
    plan: _Plan,
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    keep: tuple[int, ...],
) -> bool:
    if argv[1:] != [plan.runner] or len(keep) > 1 or not _same_user(plan.program.user, user):
        return False
    if any(env.get(name) != value for name, value in plan.program.env.items()):
        return False
    added = [os.fsdecode(name) for name in env if name not in plan.program.env]
    if any(name.startswith(_EARLY) for name in added):
        return False
    return children.find(argv[0], env.get(b"PATH", b""), cwd) == plan.file


def _same_user(one: User | None, other: User | None) -> bool:
    def identity(user: User | None) -> object:
        return (0,) if user is None or user.is_root else (user.uid, user.gid, sorted(user.groups))

    return identity(one) == identity(other)


if TYPE_CHECKING:
    from collections.abc import Callable

    _Adopt = Callable[[int], bool]
