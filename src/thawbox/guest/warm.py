"""``warm``: interpreters that have imported modules already and wait for code. Runs inside, standard library only.

``python/warm.py`` says how they work. Here is who claims one: ``children.spawn`` asks ``claim`` whenever it starts a
program, and gets the process that runs it, or nothing; then the program is started as usual.
"""

import _socket
import _thread
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from thawbox.guest import children, protocol
    from thawbox.guest.program import RESULT_FD, program_of
    from thawbox.guest.users import User
    from thawbox.guest.wire import Refused, integer
else:
    import children
    import protocol
    from program import RESULT_FD, program_of
    from users import User
    from wire import Refused, integer

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


class _Warm:
    """The first process, of which all others are forks, and the ways to them."""

    def __init__(
        self, program: bytes, runner: bytes, env: dict[bytes, bytes], user: User | None, modules: list[str]
    ) -> None:
        self.program = program
        """The interpreter's file."""
        self.runner = runner
        self.modules = frozenset(name.partition(".")[0] for name in modules)
        """Top-level names."""
        self.env = env
        self.user = user
        self.claims, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.idle, self.idle_theirs = os.pipe()
        os.set_blocking(self.idle, False)
        self.claims.setblocking(False)


_warm: _Warm | None = None
_lock = _thread.allocate_lock()


def start(request: dict[str, object], shared: dict[str, str], root: str) -> dict[str, object]:
    """Run the program ``argv``, which ends with ``warm.py``, for ``modules``; returns when children wait.

    Raises:
        Refused: WARM_FAILED: it ended, or takes too long; with what it said. INVALID; as ``program_of``.
        UnknownUser: of ``users``.
    """
    global _warm
    modules = request.get("modules")
    if not isinstance(modules, list) or not all(isinstance(name, str) and name for name in modules):
        raise Refused("INVALID", "modules must be a list of names")
    program = program_of(request, shared, root)
    file = children.find(program.argv[0], program.env.get(b"PATH", b""), program.cwd)
    if file is None:
        raise Refused("WARM_FAILED", f"{os.fsdecode(program.argv[0])}: command not found")
    made = _Warm(
        file, os.path.join(os.path.dirname(program.argv[-1]), b"run.py"), program.env, program.user, modules
    )
    count = integer(request, "count", COUNT) or COUNT
    fds = (made.theirs.fileno(), made.idle_theirs)
    argv = [*program.argv, *(str(number).encode() for number in (*fds, count)), *map(os.fsencode, modules)]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    said, say = os.pipe()
    try:
        child, watched = children.spawn(
            argv, program.env, program.cwd, program.user, (null, null, say), detached=True, keep=fds
        )
    except children.StartError as error:
        os.close(said)
        raise Refused("WARM_FAILED", error.message) from None
    finally:
        made.theirs.close()
        os.close(made.idle_theirs)
        os.close(null)
        os.close(say)
    try:
        if not _wait_for(made.idle, watched, count):
            children.kill_session(child)
            os.set_blocking(said, False)
            raise Refused("WARM_FAILED", _all_of(said) or f"not ready after {START_SECONDS:g} s")
    finally:
        os.close(said)
        os.close(watched)
    _warm = made
    children.lender = claim
    return {"children": count}


def _wait_for(idle: int, watched: int, count: int) -> bool:
    """Whether ``count`` children have begun to wait. Their bytes stay in the pipe."""
    deadline = time.monotonic() + START_SECONDS
    seen = b""
    while len(seen) < count:
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        poller.register(idle, select.POLLIN)
        ready = dict(poller.poll(max(0, int((deadline - time.monotonic()) * 1000))))
        if not ready or watched in ready:
            return False
        seen += os.read(idle, 64)
    _Tokens.left = len(seen)
    return True


class _Tokens:
    left = 0
    """Bytes of the idle pipe that have been read, and not spent."""


def _all_of(said: int) -> str:
    try:
        return os.read(said, 65536).decode("utf-8", "replace").strip()[-4000:]
    except BlockingIOError:
        return ""


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
    warm = _warm
    if (
        warm is None
        or warm.modules.isdisjoint(imports)
        or not _means_the_same(warm, argv, env, cwd, user, keep)
        or not _take_token(warm)
    ):
        return False
    clean = {name: value for name, value in env.items() if name != RESULT_FD.encode()}
    message = protocol.encode_json(
        {"env": {os.fsdecode(name): os.fsdecode(value) for name, value in clean.items()}, "cwd": cwd}
    )
    if len(message) > MESSAGE_MAX:
        _Tokens.left += 1
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
        if not _Tokens.left:
            try:
                _Tokens.left = len(os.read(warm.idle, 64))
            except BlockingIOError:
                return False
        if _Tokens.left:
            _Tokens.left -= 1
            return True
        return False


def _means_the_same(
    warm: _Warm,
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    keep: tuple[int, ...],
) -> bool:
    if argv[1:] != [warm.runner] or len(keep) > 1 or not _same_user(warm.user, user):
        return False
    if any(env.get(name) != value for name, value in warm.env.items()):
        return False
    added = [os.fsdecode(name) for name in env if name not in warm.env]
    if any(name.startswith(_EARLY) for name in added):
        return False
    return children.find(argv[0], env.get(b"PATH", b""), cwd) == warm.program


def _same_user(one: User | None, other: User | None) -> bool:
    def identity(user: User | None) -> object:
        return (0,) if user is None or user.is_root else (user.uid, user.gid, sorted(user.groups))

    return identity(one) == identity(other)


if TYPE_CHECKING:
    from collections.abc import Callable

    _Adopt = Callable[[int], bool]
