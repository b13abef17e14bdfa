"""The agent's end of one connection. Runs inside, standard library only."""

import _socket
import select
import time

from . import protocol

TYPE_CHECKING = False  # typing costs memory

REQUEST_SECONDS = 10.0
"""How long a client may take for its request line."""
GOODBYE_SECONDS = 1.0

_POLLRDHUP = 0x2000


class Refused(Exception):
    """An operation that cannot be done as asked: becomes an ERROR frame."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Gone(Exception):
    """The client has closed the connection or broken the protocol; there is nobody left to tell."""


def text(request: dict[str, object], name: str, default: str | None = None) -> str:
    """The string field ``name``.

    Raises:
        Refused: missing without a default, not a string, or with a NUL in it.
    """
    value = request.get(name)
    if value is None:
        value = default
    if not isinstance(value, str) or "\0" in value or not value:
        raise Refused("INVALID", f"{name} must be a string that is not empty and has no NUL")
    return value


def integer(request: dict[str, object], name: str, default: int | None) -> int | None:
    """The whole number ``name``, not negative.

    Raises:
        Refused: something else.
    """
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refused("INVALID", f"{name} must be a whole number, not negative")
    return value


class Connection:
    """A client that is being served. ``sock`` is closed by whoever made the connection."""

    __slots__ = ("_decoder", "frames", "sock")

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self._decoder = protocol.Decoder(protocol.TO_GUEST)
        self.frames: list[protocol.Frame] = []

    def request_line(self, known: "_Check") -> bytes | None:
        """The request line of a client that knows the secret; None for every other.

        Raises:
            Gone: it closed, took too long, or sent too much.
        """
        deadline = time.monotonic() + REQUEST_SECONDS
        received = bytearray()
        admitted = False
        while True:
            # Before the secret is seen, no stranger makes us keep more than these few bytes.
            wanted = 65536 if admitted else protocol.PREFIX_LENGTH - len(received)
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.sock.recv(wanted)
            except OSError:
                raise Gone from None
            if not data or time.monotonic() > deadline:
                raise Gone
            searched = len(received)
            received += data
            if not admitted and len(received) == protocol.PREFIX_LENGTH:
                presented = protocol.presented_secret(bytes(received))
                if presented is None or not known(presented):
                    return None
                admitted = True
            if admitted and (end := received.find(b"\n", searched)) >= 0:
                self.sock.settimeout(None)
                self._start(bytes(received[end + 1 :]))
                return bytes(received[:end])
            if len(received) > protocol.REQUEST_MAX:
                raise Gone

    def given_up(self) -> bool:
        """Whether the client has closed the connection, because it had to wait for us too long."""
        poller = select.poll()
        poller.register(self.sock, _POLLRDHUP)
        return bool(poller.poll(0))

    def _start(self, rest: bytes) -> None:
        try:
            self.frames = self._decoder.feed(rest)
        except protocol.ProtocolError:
            raise Gone from None

    def take(self, data: bytes) -> list[protocol.Frame]:
        """Every whole frame so far, with ``data`` just received.

        Raises:
            ProtocolError: of ``protocol``.
        """
        frames, self.frames = self.frames + self._decoder.feed(data), []
        return frames

    def next_frame(self) -> protocol.Frame:
        """The next frame; waits for it.

        Raises:
            Gone: there will be none.
        """
        while not self.frames:
            try:
                data = self.sock.recv(protocol.FRAME_MAX)
                if not data:
                    raise Gone
                self.frames = self._decoder.feed(data)
            except (OSError, protocol.ProtocolError):
                raise Gone from None
        return self.frames.pop(0)

    def take_stream(self, take: "Callable[[memoryview], None]") -> bytes:
        """Hand the payloads of DATA frames to ``take``, as they come; returns what END carries.

        The pieces are good during the call only: they lie in one buffer, since fresh memory for every frame costs more
        in here than what is done with it.

        Raises:
            Gone: the client closed or broke the protocol before END.
            Refused: a frame of another kind.
        """
        while self.frames:
            kind, payload = self.frames.pop(0)
            if kind != protocol.DATA:
                return _end(kind, payload)
            take(memoryview(payload))
        with memoryview(bytearray(protocol.HEADER + protocol.BLOCK)) as buffer:
            rest = self._decoder.unread()  # came with the request, so it fits
            filled, left = len(rest), 0  # ``left``: what the frame's payload still lacks
            buffer[:filled] = rest
            while True:
                at = 0
                while filled - at >= (1 if left else protocol.HEADER):
                    if left:
                        piece = min(left, filled - at)
                        take(buffer[at : at + piece])
                        at, left = at + piece, left - piece
                        continue
                    length = int.from_bytes(buffer[at + 1 : at + protocol.HEADER], "big")
                    if buffer[at] != protocol.DATA or length > protocol.FRAME_MAX:
                        self._start(bytes(buffer[at:filled]))
                        return _end(*self.next_frame())
                    at, left = at + protocol.HEADER, length
                buffer[: filled - at] = buffer[at:filled]
                filled -= at
                # All of it at once, up to the next header, which is sure to come: waking up for less costs the most.
                room = buffer[filled : left + protocol.HEADER]
                try:
                    count = self.sock.recv_into(room, 0, _socket.MSG_WAITALL)
                except OSError:
                    raise Gone from None
                if not count:
                    raise Gone
                filled += count

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send one frame; waits until the client takes it.

        Raises:
            Gone: it does not.
        """
        self.send_bytes(protocol.encode_frame(kind, payload))

    def send_object(self, kind: int, value: dict[str, object]) -> None:
        """Send one frame of JSON.

        Raises:
            Gone: see ``send``.
        """
        self.send_bytes(protocol.encode_object(kind, value))

    def send_bytes(self, data: bytes | memoryview) -> None:
        """Send frames that are encoded already.

        Raises:
            Gone: see ``send``.
        """
        try:
            self.sock.sendall(data)
        except OSError:
            raise Gone from None

    def goodbye(self) -> None:
        """Let the client close first, and throw away what it still sends.

        Closing with unread bytes would reset the connection and could cost the client our last frame; and
        whoever closes first keeps the connection in TIME_WAIT, which should not be in the guest when it is
        frozen.
        """
        deadline = time.monotonic() + GOODBYE_SECONDS
        try:
            self.sock.shutdown(_socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not self.sock.recv(protocol.CHUNK):
                    return
        except OSError:
            pass


def _end(kind: int, payload: bytes) -> bytes:
    if kind != protocol.END:
        raise Refused("INVALID", "only DATA and END may follow")
    return payload


if TYPE_CHECKING:
    from collections.abc import Callable

    _Check = Callable[[bytes], bool]
