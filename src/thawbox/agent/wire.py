"""The agent's end of one connection. Part of process 1; standard library only."""

import _socket
import select
import time

from . import protocol

TYPE_CHECKING = False  # typing costs memory

REQUEST_SECONDS = 10.0
"""How long a client may take for its request line."""
CLOSE_SECONDS = 1.0
"""How long the agent waits for the client to close first."""

_POLLRDHUP = 0x2000


class OperationError(Exception):
    """The operation cannot be done as requested: becomes an ERROR frame."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ClientGone(Exception):
    """The client has closed the connection or broken the protocol; nothing can be sent to it."""


def text(request: dict[str, object], name: str, default: str | None = None) -> str:
    """The string field ``name``.

    Raises:
        OperationError: missing without a default, not a string, or with a NUL in it.
    """
    value = request.get(name)
    if value is None:
        value = default
    if not isinstance(value, str) or "\0" in value or not value:
        raise OperationError("INVALID", f"{name} must be a string that is not empty and has no NUL")
    return value


def integer(request: dict[str, object], name: str, default: int | None) -> int | None:
    """The whole number ``name``, not negative.

    Raises:
        OperationError: something else.
    """
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise OperationError("INVALID", f"{name} must be a whole number, not negative")
    return value


class ClientConnection:
    """A client that is being served. Whoever made ``sock`` closes it."""

    __slots__ = ("_decoder", "frames", "sock")

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self._decoder = protocol.Decoder(protocol.TO_GUEST)
        self.frames: list[protocol.Frame] = []

    def request_line(self, accepts: "_Check") -> bytes | None:
        """The request line of a client whose secret ``accepts`` confirms; None for every other client.

        Raises:
            ClientGone: it closed, took too long, or sent too much.
        """
        deadline = time.monotonic() + REQUEST_SECONDS
        received = bytearray()
        admitted = False
        while True:
            # Before the secret is checked, a client cannot make the agent keep more than these few bytes.
            wanted = 65536 if admitted else protocol.PREFIX_LENGTH - len(received)
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.sock.recv(wanted)
            except OSError:
                raise ClientGone from None
            if not data or time.monotonic() > deadline:
                raise ClientGone
            searched = len(received)
            received += data
            if not admitted and len(received) == protocol.PREFIX_LENGTH:
                presented = protocol.presented_secret(bytes(received))
                if presented is None or not accepts(presented):
                    return None
                admitted = True
            if admitted and (end := received.find(b"\n", searched)) >= 0:
                self.sock.settimeout(None)
                self._start(bytes(received[end + 1 :]))
                return bytes(received[:end])
            if len(received) > protocol.REQUEST_MAX:
                raise ClientGone

    def closed_by_client(self) -> bool:
        """Whether the client has closed the connection, because the agent took too long."""
        poller = select.poll()
        poller.register(self.sock, _POLLRDHUP)
        return bool(poller.poll(0))

    def _start(self, rest: bytes) -> None:
        try:
            self.frames = self._decoder.feed(rest)
        except protocol.ProtocolError:
            raise ClientGone from None

    def take(self, data: bytes) -> list[protocol.Frame]:
        """Every whole frame so far, ``data`` included, which has just been received.

        Raises:
            ProtocolError: of ``protocol``.
        """
        frames, self.frames = self.frames + self._decoder.feed(data), []
        return frames

    def next_frame(self) -> protocol.Frame:
        """The next frame; waits for it.

        Raises:
            ClientGone: there will be none.
        """
        while not self.frames:
            try:
                data = self.sock.recv(protocol.FRAME_MAX)
                if not data:
                    raise ClientGone
                self.frames = self._decoder.feed(data)
            except (OSError, protocol.ProtocolError):
                raise ClientGone from None
        return self.frames.pop(0)

    def receive_stream(self, consume: "Callable[[memoryview], None]") -> bytes:
        """Pass the payloads of DATA frames to ``consume`` as they come; returns the payload of END.

        The pieces are valid during the call only: they lie in one buffer. In gVisor, fresh memory for every frame costs
        more than all that is done with it.

        Raises:
            ClientGone: the client closed or broke the protocol before END.
            OperationError: a frame of another kind.
        """
        while self.frames:
            kind, payload = self.frames.pop(0)
            if kind != protocol.DATA:
                return _end(kind, payload)
            consume(memoryview(payload))
        with memoryview(bytearray(protocol.HEADER + protocol.BLOCK)) as buffer:
            rest = self._decoder.unread()  # came with the request, so it fits
            filled, left = len(rest), 0  # ``left``: what the frame's payload still lacks
            buffer[:filled] = rest
            while True:
                at = 0
                while filled - at >= (1 if left else protocol.HEADER):
                    if left:
                        piece = min(left, filled - at)
                        consume(buffer[at : at + piece])
                        at, left = at + piece, left - piece
                        continue
                    length = int.from_bytes(buffer[at + 1 : at + protocol.HEADER], "big")
                    if buffer[at] != protocol.DATA or length > protocol.FRAME_MAX:
                        self._start(bytes(buffer[at:filled]))
                        return _end(*self.next_frame())
                    at, left = at + protocol.HEADER, length
                buffer[: filled - at] = buffer[at:filled]
                filled -= at
                # Wait for all bytes up to the end of the next header, which is sure to come: wake-ups cost the most.
                room = buffer[filled : left + protocol.HEADER]
                try:
                    count = self.sock.recv_into(room, 0, _socket.MSG_WAITALL)
                except OSError:
                    raise ClientGone from None
                if not count:
                    raise ClientGone
                filled += count

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send one frame; waits until the client takes it.

        Raises:
            ClientGone: it does not.
        """
        self.send_bytes(protocol.encode_frame(kind, payload))

    def send_object(self, kind: int, value: dict[str, object]) -> None:
        """Send one frame of JSON.

        Raises:
            ClientGone: see ``send``.
        """
        self.send_bytes(protocol.encode_object(kind, value))

    def send_bytes(self, data: bytes | memoryview) -> None:
        """Send frames that are encoded already.

        Raises:
            ClientGone: see ``send``.
        """
        try:
            self.sock.sendall(data)
        except OSError:
            raise ClientGone from None

    def finish(self) -> None:
        """Shut down sending, and discard what the client sends until it closes.

        Closing with unread bytes would reset the connection and could lose the agent's last frame. And the side that
        closes first keeps the connection in TIME_WAIT, which must not be in the sandbox when it is frozen.
        """
        deadline = time.monotonic() + CLOSE_SECONDS
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
        raise OperationError("INVALID", "only DATA and END may follow")
    return payload


if TYPE_CHECKING:
    from collections.abc import Callable

    _Check = Callable[[bytes], bool]
