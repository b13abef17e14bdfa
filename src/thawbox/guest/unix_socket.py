"""Requests to programs of Thawbox inside that listen on a unix socket (the kernel's owner)."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from .channel import Endpoint, GuestError, connect

LINE_MAX = 32 << 20
"""Bytes of one line of an answer."""


async def request_program(
    endpoint: Endpoint, socket: str, question: Mapping[str, Any], *, user: str | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Send ``question`` to the program at the unix socket ``socket`` inside; yields its answer, one JSON object a line.

    The socket must belong to ``user`` (None: root); ``{uid}`` in it stands for their uid. Closing the iterator closes
    the connection.

    Raises:
        GuestError: NOT_LISTENING; INVALID: the question is too long; NONSENSE: the program's answer is not lines of
            JSON objects.
        GuestFault: the agent does not answer.
    """
    async with connect(
        endpoint, "ask", {"socket": socket, "user": user, "question": dict(question)}
    ) as channel:
        unfinished = bytearray()
        async for piece in channel.stream():
            *lines, rest = piece.split(b"\n")
            if lines:
                yield _object(bytes(unfinished + lines[0]))
                for line in lines[1:]:
                    yield _object(line)
                unfinished.clear()
            unfinished += rest
            if len(unfinished) > LINE_MAX:
                raise GuestError("NONSENSE", "a program inside sent a line that is too long")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise GuestError("NONSENSE", "a program inside answered with something that is not a JSON object")
    return value
