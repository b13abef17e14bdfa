"""A command inside a sandbox whose input and output are pipes or files here: every byte passes as it comes."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from .attach import refusal
from .client import is_loopback
from .failure import Failure

SANDBOX_ENDED = 137
"""Exit status if the sandbox itself ends under the command: what SIGKILL gives."""
_READ = 64 * 1024
_UNDERWAY = 16
"""Pieces of input that the command may not have been given yet. The gateway gives up on a client that sends more than
it can pass on for half a minute."""
_OUTPUT_WAITING = 4096
"""Frames that we keep while whoever reads our output is slow; the gateway waits half a minute for us after that."""
_OPEN_S = 60
_CLOSE_S = 2
_ENCODING = "latin-1"
"""Of frames: a character for each byte."""


def run_piped(
    sandbox: dict[str, Any],
    command: Sequence[str],
    *,
    stdin: bool,
    timeout_s: int,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Run ``command`` with ``variables`` on top of the sandbox's environment; returns its exit code.

    Its output goes to our standard output and error while it runs, with ``stdin`` our input to it. Leaving by an
    exception ends the command inside. ``sandbox`` is a record with ``public_host`` and ``auth_token``. Over the
    WebSocket ``/commands/stream``.

    Raises:
        Failure: it cannot be run, or the connection broke off.
    """
    first = {
        "type": "run",
        "command": command[0],
        "args": list(command[1:]),
        "timeout": timeout_s,
        "env": dict(variables or {}),
        "stdin": stdin,
        "ack": stdin,
        "encoding": _ENCODING,
    }
    with _broken_connection_as_failure(), _connected(sandbox) as socket:
        socket.send(json.dumps(first))
        room = threading.Semaphore(_UNDERWAY)
        if stdin:
            # A daemon: nothing can end its waiting for input when the command has ended.
            threading.Thread(target=_give, args=(socket, room), daemon=True).start()
        return _pass_on(socket, room)


def _connected(sandbox: dict[str, Any]) -> ClientConnection:
    host = str(sandbox["public_host"]).rstrip("/")
    return connect(
        f"ws{host.removeprefix('http')}/commands/stream",
        additional_headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
        compression=None,
        proxy=None if is_loopback(host) else True,
        open_timeout=_OPEN_S,
        close_timeout=_CLOSE_S,
        max_queue=_OUTPUT_WAITING,
    )


@contextmanager
def _broken_connection_as_failure() -> Iterator[None]:
    try:
        yield
    except InvalidStatus as error:
        raise Failure(f"The sandbox refuses the command: {refusal(error)}") from error
    except (ConnectionError, TimeoutError, WebSocketException) as error:
        if isinstance(error, BrokenPipeError):  # whoever read our output has gone
            raise
        reason = str(error) or type(error).__name__
        raise Failure(f"The connection to the sandbox broke off: {reason.rstrip('.')}.") from error


def _pass_on(socket: ClientConnection, room: threading.Semaphore) -> int:
    status: int | None = None
    for text in socket:
        frame = json.loads(text)
        match frame.get("type"):
            case "stdout":
                _write(sys.stdout, frame)
            case "stderr":
                _write(sys.stderr, frame)
            case "ack":
                room.release()
            case "result":
                status = int(frame["exit_code"])
            case "complete" if status is not None:
                return status
            case "error":
                message = str(frame.get("error")).rstrip(".") + "."
                if frame.get("code") != "SANDBOX_ENDED":
                    raise Failure(message)
                click.echo(f"thaw: {message}", err=True)
                return SANDBOX_ENDED
    raise Failure("The connection to the sandbox ended before the command did.")


def _write(stream: Any, frame: dict[str, Any]) -> None:
    stream.flush()
    stream.buffer.write(str(frame["data"]).encode(_ENCODING, "replace"))
    stream.buffer.flush()


def _give(socket: ClientConnection, room: threading.Semaphore) -> None:
    try:
        for piece in _input():
            room.acquire()
            socket.send(json.dumps({"type": "stdin", "data": piece.decode(_ENCODING)}))
        socket.send(json.dumps({"type": "stdin_eof"}))
    except ConnectionClosed:
        pass  # the command has ended without it


def _input() -> Iterator[bytes]:
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # no file
        yield sys.stdin.buffer.read()
        return
    # Not through the buffer: its lock, held while we wait, would be missed when the program ends.
    while piece := os.read(descriptor, _READ):
        yield piece
