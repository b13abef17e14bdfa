"""``spawn``: one command over one connection. Runs inside, standard library only.

A single poll loop moves everything, and nothing in it blocks: so a client that does not read cannot keep its
command from being signalled, timed out, or fed.
"""

import os
import select
import time

from . import children, protocol
from .program import RESULT_FD, Program, program_of
from .wire import Connection, Refused, integer, text

TYPE_CHECKING = False  # typing costs memory

READ = 64 * 1024
STDIN_PENDING_MAX = 1 << 20
"""Beyond this we stop reading from the connection; TCP then holds the client back."""
GRACE = 0.1
"""Seconds that we go on reading after the command's end, for what its descendants still hold open."""
AFTER_EXIT_MAX = 1 << 20
"""A pipe holds at most this much, so more than this after the command's end is not the command's."""
TIMED_OUT = 124
_POLLRDHUP = 0x2000

Request = dict[str, object]


class Stream:
    """One output stream of the command."""

    __slots__ = ("fd", "kind", "left")

    def __init__(self, fd: int, kind: int, limit: int | None) -> None:
        self.fd = fd
        self.kind = kind
        self.left = limit


class Run:
    """Everything that one running command owns; ``close`` frees it."""

    def __init__(self, child: children.Child, watched: int, deadline: float | None) -> None:
        self.child = child
        self.watched = watched
        self.deadline = deadline
        self.stdin = -1
        self.stdin_pending = bytearray()
        self.stdin_ended = False
        self.resize: _Resize | None = None
        """Only with a terminal."""
        self.streams: list[Stream] = []
        self.outgoing = bytearray()
        self.grace_end: float | None = None
        self.after_exit = 0
        self.timed_out = False
        self.truncated = False
        self.ended = 0.0

    def close(self) -> None:
        for fd in (self.stdin, self.watched, *(stream.fd for stream in self.streams)):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.watched = -1
        self.streams = []


def serve(connection: Connection, request: Request, shared: dict[str, str], root: str) -> None:
    """Run the command that ``request`` describes and report on ``connection`` until it has ended.

    Raises:
        Refused: the request cannot be carried out as it is.
        UnknownUser: of ``users``.
    """
    detached = bool(request.get("detach"))
    program = program_of(request, shared, root)
    try:
        if request.get("scratch") and not detached:
            program.make_scratch()
        _serve(connection, program, request, detached)
    finally:
        program.remove_scratch()


def _serve(connection: Connection, program: Program, request: Request, detached: bool) -> None:
    try:
        run = _start(program, request, detached)
    except children.StartError as error:
        not_started(connection, error)
        return
    attend(connection, run, detached)


def not_started(connection: Connection, error: children.StartError) -> None:
    """Say that the program could not be started, in the way that a shell would."""
    connection.send_object(protocol.STARTED, {"pid": 0})
    connection.send(protocol.STDERR, error.message.encode("utf-8", "replace") + b"\n")
    connection.send_object(protocol.EXIT, _exit(error.code, None, False, False, 0.0))


def attend(connection: Connection, run: Run, detached: bool = False) -> None:
    """Report on a command that has been started until it has ended; then free all that is its."""
    try:
        run.outgoing += protocol.encode_object(protocol.STARTED, {"pid": run.child.pid})
        connection.sock.setblocking(False)
        if _relay(connection, run):
            connection.sock.setblocking(True)
            connection.send_bytes(bytes(run.outgoing) + _last_frame(run))
    finally:
        if not detached:
            children.kill_session(run.child)
        run.close()


def _start(program: Program, request: Request, detached: bool) -> Run:
    result_limit = integer(request, "result_limit", None)
    ours: list[int] = []
    theirs: list[int] = []
    try:
        if request.get("stdin") and not detached:
            their_in, our_in = os.pipe()
            ours.append(our_in)
        else:
            their_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        theirs.append(their_in)
        if detached:
            theirs += _log(request)
        else:
            for _ in range(2 if result_limit is None else 3):
                our_end, their_end = os.pipe()
                ours.append(our_end)
                theirs.append(their_end)
        for fd in ours:
            os.set_blocking(fd, False)
        keep = tuple(theirs[3:])
        if keep:
            program.env[RESULT_FD.encode()] = str(keep[0]).encode()
        stdio = (theirs[0], theirs[1], theirs[2])
        child, watched = children.spawn(
            program.argv,
            program.env,
            program.cwd,
            program.user,
            stdio,
            detached,
            keep,
            imports=program.imports,
        )
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    timeout = None if detached else program.timeout
    run = Run(child, watched, None if timeout is None else child.started + timeout)
    if not detached:
        if request.get("stdin"):
            run.stdin = ours.pop(0)
        kinds = (protocol.STDOUT, protocol.STDERR, protocol.VALUE)
        limits = (program.limit, program.limit, result_limit)
        run.streams = [Stream(*stream) for stream in zip(ours, kinds, limits, strict=False)]
    return run


def _log(request: Request) -> list[int]:
    path = text(request, "log", "/dev/null")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
    except OSError as error:
        raise Refused("INVALID", f"log file {path!r} cannot be opened: {error.strerror}") from None
    return [fd, os.dup(fd)]


def _relay(connection: Connection, run: Run) -> bool:
    """Move bytes until the command is over; False if the client has gone."""
    sock = connection.sock
    socket_fd = sock.fileno()
    if connection.frames and not _receive(connection, run, b""):
        return False
    while True:
        if run.outgoing:
            try:
                sent = sock.send(run.outgoing)
            except BlockingIOError:
                pass
            except OSError:
                return False
            else:
                del run.outgoing[:sent]
        ready = dict(_poller(run, socket_fd).poll(_patience(run)))
        now = time.monotonic()
        if socket_fd in ready and ready[socket_fd] & ~select.POLLOUT:
            if ready[socket_fd] & select.POLLIN:
                try:
                    data = sock.recv(READ)
                except BlockingIOError:
                    data = None
                except OSError:
                    return False
                if data == b"" or (data and not _receive(connection, run, data)):
                    return False
            else:
                return False
        if run.stdin in ready:
            _feed(run)
        read_something = False
        for stream in [stream for stream in run.streams if stream.fd in ready]:
            read_something |= _read(run, stream)
        if run.watched in ready:
            os.close(run.watched)
            run.watched = -1
            run.ended = now
            run.grace_end = now + GRACE
        if run.watched < 0 and not run.outgoing:
            assert run.grace_end is not None
            over = now >= run.grace_end and (not read_something or run.after_exit > AFTER_EXIT_MAX)
            if not run.streams or over:
                return True
        if run.deadline is not None and now >= run.deadline and run.watched >= 0:
            run.timed_out = True
            run.deadline = None
            children.kill_session(run.child)


def _poller(run: Run, socket_fd: int) -> "select.poll":
    poller = select.poll()
    wanted = select.POLLIN if len(run.stdin_pending) < STDIN_PENDING_MAX else _POLLRDHUP
    poller.register(socket_fd, wanted | (select.POLLOUT if run.outgoing else 0))
    if run.watched >= 0:
        poller.register(run.watched, select.POLLIN)
    if run.stdin >= 0 and run.stdin_pending:
        poller.register(run.stdin, select.POLLOUT)
    if not run.outgoing:
        for stream in run.streams:
            poller.register(stream.fd, select.POLLIN)
    return poller


def _patience(run: Run) -> int | None:
    """Milliseconds that poll may wait."""
    until = run.deadline
    if run.grace_end is not None and not run.outgoing:
        until = run.grace_end
    if until is None:
        return None
    return max(0, int((until - time.monotonic()) * 1000) + 1)


def _receive(connection: Connection, run: Run, data: bytes) -> bool:
    """Take the client's frames; False if it talks nonsense."""
    try:
        frames = connection.take(data)
    except protocol.ProtocolError:
        return False
    for kind, payload in frames:
        if kind == protocol.STDIN:
            if run.stdin >= 0 and not run.stdin_ended:
                run.stdin_pending += payload
        elif kind == protocol.STDIN_EOF:
            run.stdin_ended = True
        elif kind == protocol.SIGNAL and len(payload) == 1 and 0 < payload[0] < 65:
            children.signal_group(run.child, payload[0])
        elif kind == protocol.RESIZE and run.resize is not None:
            run.resize(payload)
        else:
            return False
    _feed(run)
    return True


def _feed(run: Run) -> None:
    if run.stdin < 0:
        run.stdin_pending.clear()
        return
    try:
        if run.stdin_pending:
            del run.stdin_pending[: os.write(run.stdin, run.stdin_pending[:READ])]
        finished = run.stdin_ended and not run.stdin_pending
    except BlockingIOError:
        return
    except OSError:  # the command has closed its end
        finished = True
    if finished:
        os.close(run.stdin)
        run.stdin = -1
        run.stdin_pending.clear()


def _read(run: Run, stream: Stream) -> bool:
    """Read once from ``stream``; False if there was nothing, or its end."""
    try:
        data = os.read(stream.fd, READ)
    except BlockingIOError:
        return False
    except OSError:  # a terminal that no program has open any more
        data = b""
    if not data:
        os.close(stream.fd)
        run.streams.remove(stream)
        return False
    if run.watched < 0:
        run.after_exit += len(data)
    if stream.left is not None:
        if len(data) > stream.left:
            data = data[: stream.left]
            run.truncated = True
        stream.left -= len(data)
    if data:
        run.outgoing += protocol.encode_frame(stream.kind, data)
    return True


def _last_frame(run: Run) -> bytes:
    assert run.child.status is not None
    code, signal = children.exit_code(run.child.status)
    if run.timed_out:
        code = TIMED_OUT
    seconds = run.ended - run.child.started
    return protocol.encode_object(protocol.EXIT, _exit(code, signal, run.timed_out, run.truncated, seconds))


def _exit(
    code: int, signal: int | None, timed_out: bool, truncated: bool, seconds: float
) -> dict[str, object]:
    return {
        "code": code,
        "signal": signal,
        "timed_out": timed_out,
        "truncated": truncated,
        "seconds": round(seconds, 6),
    }


if TYPE_CHECKING:
    from collections.abc import Callable

    _Resize = Callable[[bytes], None]
