"""Moves a running command's input and output over one connection. Part of process 1; standard library only.

A single poll loop moves everything and never blocks: so a client that does not read cannot keep its command from being
signalled, timed out, or given input.
"""

import os
import select
import time

from . import children, protocol
from .spawn import StartError
from .wire import ClientConnection

TYPE_CHECKING = False  # typing costs memory

READ = 64 * 1024
STDIN_PENDING_MAX = 1 << 20
"""Beyond this many bytes nothing is read from the connection; TCP then holds the client back."""
GRACE = 0.1
"""Seconds for which reading goes on after the command's end, for what its descendants still hold open."""
AFTER_EXIT_MAX = 1 << 20
"""A pipe holds at most this much, so more than this after the command's end is not the command's."""
TIMED_OUT = 124
_POLLRDHUP = 0x2000


class OutputStream:
    """One output stream of the command."""

    __slots__ = ("fd", "kind", "left")

    def __init__(self, fd: int, kind: int, limit: int | None) -> None:
        self.fd = fd
        self.kind = kind
        self.left = limit


class RunningCommand:
    """What one running command needs; ``close`` frees it.

    ``watched`` is a descriptor that hangs up when the command has been reaped, ``deadline`` a time on the monotonic
    clock.
    """

    def __init__(self, child: children.Child, watched: int, deadline: float | None) -> None:
        self.child = child
        self.watched = watched
        self.deadline = deadline
        self.stdin = -1
        self.stdin_pending = bytearray()
        self.stdin_ended = False
        self.resize: _Resize | None = None
        """Sets the size of the command's terminal, if it has one."""
        self.streams: list[OutputStream] = []
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


def not_started(connection: ClientConnection, error: StartError) -> None:
    """Report as a shell would that the program could not be started: STARTED, STDERR, EXIT."""
    connection.send_object(protocol.STARTED, {"pid": 0})
    connection.send(protocol.STDERR, error.message.encode("utf-8", "replace") + b"\n")
    connection.send_object(protocol.EXIT, _exit(error.code, None, False, False, 0.0))


def attend(connection: ClientConnection, run: RunningCommand, detached: bool = False) -> None:
    """Send STARTED, output and EXIT of a command that has been started; then free what it needed."""
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


def _relay(connection: ClientConnection, run: RunningCommand) -> bool:
    """Move bytes until the command is over; False if the client has closed the connection."""
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
        ready = dict(_poller(run, socket_fd).poll(_wait_ms(run)))
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


def _poller(run: RunningCommand, socket_fd: int) -> "select.poll":
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


def _wait_ms(run: RunningCommand) -> int | None:
    """Milliseconds that poll may wait; None: for ever."""
    until = run.deadline
    if run.grace_end is not None and not run.outgoing:
        until = run.grace_end
    if until is None:
        return None
    return max(0, int((until - time.monotonic()) * 1000) + 1)


def _receive(connection: ClientConnection, run: RunningCommand, data: bytes) -> bool:
    """Handle the client's frames; False if one is not allowed."""
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


def _feed(run: RunningCommand) -> None:
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


def _read(run: RunningCommand, stream: OutputStream) -> bool:
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


def _last_frame(run: RunningCommand) -> bytes:
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
