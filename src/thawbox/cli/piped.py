"""Runs a command in a sandbox with input and output that are pipes or files here. Every byte is passed on unchanged."""

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
"""The exit status if the sandbox itself ends while the command runs: the same as after SIGKILL."""
_READ = 64 * 1024
_UNDERWAY = 16
"""The most pieces of input that were sent but not acknowledged. The gateway ends the connection if it cannot pass
pieces on for half a minute."""
_OUTPUT_WAITING = 4096
"""The most frames that are kept while the reader of standard output is slow. After that the gateway waits for half a
minute."""
_OPEN_S = 60
_CLOSE_S = 2
_ENCODING = "latin-1"
"""The encoding of data in frames: one character for each byte."""


def run_piped(
    sandbox: dict[str, Any],
    command: Sequence[str],
    *,
    stdin: bool,
    timeout_s: int,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Run ``command`` with ``variables`` added to the sandbox's environment. Returns its exit code.

    While it runs, its output goes to standard output and error, and if ``stdin`` is set, standard input goes to it.
    After ``timeout_s`` seconds the command is stopped. An exception here ends the command inside. ``sandbox`` is a
    record with ``public_host`` and ``auth_token``. It uses the WebSocket ``/commands/stream``.

    Raises:
        Failure: the command cannot be run, or the connection was lost.
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
        window = threading.Semaphore(_UNDERWAY)
        if stdin:
            # A daemon, because nothing can interrupt its read of standard input when the command has ended.
            threading.Thread(target=_send_input, args=(socket, window), daemon=True).start()
        return _receive_output(socket, window)


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
        if isinstance(error, BrokenPipeError):  # the reader of standard output has closed it
            raise
        reason = str(error) or type(error).__name__
        raise Failure(f"The connection to the sandbox was lost: {reason.rstrip('.')}.") from error


def _receive_output(socket: ClientConnection, window: threading.Semaphore) -> int:
    status: int | None = None
    for text in socket:
        frame = json.loads(text)
        match frame.get("type"):
            case "stdout":
                _write(sys.stdout, frame)
            case "stderr":
                _write(sys.stderr, frame)
            case "ack":
                window.release()
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


def _send_input(socket: ClientConnection, window: threading.Semaphore) -> None:
    try:
        for piece in _input():
            window.acquire()
            socket.send(json.dumps({"type": "stdin", "data": piece.decode(_ENCODING)}))
        socket.send(json.dumps({"type": "stdin_eof"}))
    except ConnectionClosed:
        pass  # the command has ended and needs no more input


def _input() -> Iterator[bytes]:
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # standard input is not a file
        yield sys.stdin.buffer.read()
        return
    # Not through the buffered reader: this thread would hold its lock while it waits, and block the end of the program.
    while piece := os.read(descriptor, _READ):
        yield piece
