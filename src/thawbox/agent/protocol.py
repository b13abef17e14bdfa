"""The bytes between the client outside and the agent inside. Pure functions, used by both sides.

One TCP connection carries one operation::

    request   {"secret":"<64 hex digits>","op":"<name>",...}\\n
    frames    kind u8, length u32 big endian, <length> bytes; both ways

The secret comes first in the line, written exactly like this. So the agent can refuse a client without the secret
after ``PREFIX_LENGTH`` bytes, before it keeps or parses anything else that the client sends.

Nothing here trusts what it reads: the other side may be hostile. ``json`` is the only import, because every module
that the agent imports costs memory in every sandbox. The operations, with their fields and frames, are listed in
``guest/operations.py``, which the agent does not import; docs/reference/agent-protocol.md describes them.
"""

import json

VERSION = 1
"""Version of the operations, as ``ping`` answers it; see ``guest/operations.py`` for when it must grow."""
REQUEST_MAX = 1 << 20
"""Longest request line, bytes, newline included."""
FRAME_MAX = 1 << 20
"""Longest payload of a frame, bytes."""
CHUNK = 128 * 1024
"""How much of a stream is sent in one frame, bytes."""
BLOCK = 512 * 1024
"""As ``CHUNK``, for the content of files, which moves through one buffer per transfer."""
HEADER = 5
SECRET_LENGTH = 64

# To the agent.
STDIN = 1
STDIN_EOF = 2
SIGNAL = 3
"""One byte: the number of the signal for the command's process group."""
DATA = 4
"""A piece of a stream; both ways."""
END = 5
"""The stream is complete; both ways."""
RESIZE = 6
"""Rows and columns of the command's terminal, two bytes each."""

# From the agent.
RESULT = 16
ERROR = 17
STARTED = 18
STDOUT = 19
STDERR = 20
EXIT = 21
VALUE = 22
"""A piece of what the command wrote to its result descriptor."""

TO_GUEST = frozenset((STDIN, STDIN_EOF, SIGNAL, DATA, END, RESIZE))
FROM_GUEST = frozenset((DATA, END, RESULT, ERROR, STARTED, STDOUT, STDERR, EXIT, VALUE))

_PREFIX_HEAD = b'{"secret":"'
_PREFIX_TAIL = b'",'
PREFIX_LENGTH = len(_PREFIX_HEAD) + SECRET_LENGTH + len(_PREFIX_TAIL)

Frame = tuple[int, bytes]
"""Kind and payload."""


class ProtocolError(Exception):
    """The other side broke the protocol; the connection cannot be used any more."""


def encode_request(op: str, secret: str, fields: dict[str, object] | None = None) -> bytes:
    """The request line for ``op``.

    Raises:
        ProtocolError: the line would be longer than ``REQUEST_MAX``, or the secret is not 64 hex digits.
    """
    if not is_secret(secret.encode("ascii", "replace")):
        raise ProtocolError("the secret must be 64 hexadecimal digits")
    line = json.dumps({"secret": secret, "op": op, **(fields or {})}, separators=(",", ":")).encode() + b"\n"
    if len(line) > REQUEST_MAX:
        raise ProtocolError(f"the request is {len(line)} bytes long; at most {REQUEST_MAX} are allowed")
    return line


def presented_secret(start: bytes) -> bytes | None:
    """The secret in the first ``PREFIX_LENGTH`` bytes of a request, or None if they do not begin a request."""
    if len(start) != PREFIX_LENGTH or not start.startswith(_PREFIX_HEAD) or not start.endswith(_PREFIX_TAIL):
        return None
    return start[len(_PREFIX_HEAD) : -len(_PREFIX_TAIL)]


def is_secret(text: bytes) -> bool:
    """Whether ``text`` is 64 hexadecimal digits."""
    return len(text) == SECRET_LENGTH and all(byte in b"0123456789abcdefABCDEF" for byte in text)


def encode_frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame.

    Raises:
        ProtocolError: the payload is longer than ``FRAME_MAX``.
    """
    if len(payload) > FRAME_MAX:
        raise ProtocolError(f"a frame of {len(payload)} bytes; at most {FRAME_MAX} are allowed")
    return encode_header(kind, len(payload)) + payload


def encode_header(kind: int, length: int) -> bytes:
    """The header of a frame with a payload of ``length`` bytes, at most ``FRAME_MAX``."""
    return kind.to_bytes(1, "big") + length.to_bytes(4, "big")


def encode_json(value: object) -> bytes:
    """``value`` as a payload."""
    return json.dumps(value, separators=(",", ":")).encode()


def encode_object(kind: int, value: dict[str, object]) -> bytes:
    """One frame whose payload is ``value`` as JSON."""
    return encode_frame(kind, encode_json(value))


def decode_json(payload: bytes) -> object:
    """The value in a payload.

    Raises:
        ProtocolError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None


def decode_object(payload: bytes) -> dict[str, object]:
    """The JSON object in a payload or request line.

    Raises:
        ProtocolError: it is not one.
    """
    value = decode_json(payload)
    if not isinstance(value, dict):
        raise ProtocolError("not a JSON object")
    return value


class Decoder:
    """Splits bytes into frames as they come; keeps at most one unfinished frame."""

    def __init__(self, kinds: frozenset[int]) -> None:
        self._kinds = kinds
        self._buffer = bytearray()
        self._broken = ""

    @property
    def empty(self) -> bool:
        """Whether no frame is half-received."""
        return not self._buffer

    def unread(self) -> bytes:
        """Remove and return the bytes of the frame that is half-received."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """The frames that ``data`` completes.

        Raises:
            ProtocolError: an unknown kind or an over-long frame; from then on every call raises.
        """
        if self._broken:
            raise ProtocolError(self._broken)
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        while len(self._buffer) - start >= HEADER:
            kind = self._buffer[start]
            length = int.from_bytes(self._buffer[start + 1 : start + HEADER], "big")
            if kind not in self._kinds or length > FRAME_MAX:
                self._broken = f"a frame of kind {kind} and {length} bytes is not allowed here"
                self._buffer.clear()
                raise ProtocolError(self._broken)
            end = start + HEADER + length
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:  # slices of a bytearray would be copied twice
                frames.append((kind, bytes(view[start + HEADER : end])))
            start = end
        del self._buffer[:start]
        return frames
