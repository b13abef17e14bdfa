"""Questions to programs of ours inside, from outside; a part of ``client``."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from .channel import Endpoint, GuestError, connect

LINE_MAX = 32 << 20
"""Bytes of one line of an answer."""


async def ask_program(
    endpoint: Endpoint, socket: str, question: Mapping[str, Any], *, user: str | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """The lines, JSON objects, that the program at the unix socket ``socket`` inside answers until it hangs up.

    The socket must be ``user``'s (None: root); ``{uid}`` in it stands for their id. Closing the iterator hangs up.

    Raises:
        GuestError: NOT_LISTENING; INVALID: the question is too long to be sent; NONSENSE: the answer is no lines of
            JSON objects, which is the program's doing and not the agent's.
        GuestFault: the agent is silent.
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
                raise GuestError("NONSENSE", "a program inside says too much in one line")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise GuestError("NONSENSE", "a program inside answers with something that is no JSON object")
    return value
