"""Attaches this terminal to a program that runs on a terminal inside a sandbox."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .client import is_loopback
from .failure import Failure

_READ = 4096


def possible() -> bool:
    """Whether standard input and standard output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def attach(sandbox: dict[str, Any], command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run ``command`` (without one: a login shell) on a terminal inside. Returns its exit code.

    Every key is sent inside, Ctrl-C too, and the size of the terminal inside follows the size of this one. At the end
    this terminal gets its old mode back. ``sandbox`` is a record with ``public_host`` and ``auth_token``;
    ``variables`` are added to the environment of the command.

    Raises:
        Failure: the command cannot be started, or the connection was lost.
    """
    start: dict[str, Any] = {"type": "start", "env": dict(variables), **_size()}
    if command:
        start |= {"command": command[0], "args": list(command[1:])}
    with _raw():
        return asyncio.run(_run_terminal(sandbox, start))


async def _run_terminal(sandbox: dict[str, Any], start: dict[str, Any]) -> int:
    host = str(sandbox["public_host"]).rstrip("/")
    url = f"ws{host.removeprefix('http')}/terminal?start=1"
    try:
        async with connect(
            url,
            additional_headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
            compression=None,
            proxy=None if is_loopback(host) else True,
        ) as socket:
            await socket.send(json.dumps(start))
            sending = asyncio.create_task(_send_input(socket))
            try:
                return await _receive_output(socket)
            finally:
                sending.cancel()
    except InvalidStatus as error:
        raise Failure(f"The sandbox refuses a terminal: {refusal(error)}") from error
    except (OSError, WebSocketException) as error:
        raise Failure(f"The connection to the sandbox was lost: {error}.") from error


async def _receive_output(socket: ClientConnection) -> int:
    reason = "the server ended it"
    try:
        async for text in socket:
            frame = json.loads(text)
            match frame.get("type"):
                case "output":
                    sys.stdout.buffer.write(str(frame["data"]).encode("utf-8", "replace"))
                    sys.stdout.buffer.flush()
                case "error":
                    reason = str(frame.get("error"))
                case "exit" if frame["code"] >= 0:
                    return int(frame["code"])
    except ConnectionClosed as error:
        reason = str(error)
    raise Failure(f"The terminal ended: {reason.rstrip('.')}.")


async def _send_input(socket: ClientConnection) -> None:
    """Send the keys that are typed, and the size of this terminal when it changes, until cancelled."""
    loop = asyncio.get_running_loop()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    stdin = sys.stdin.fileno()

    def read_keys() -> None:
        data = os.read(stdin, _READ)
        if not data:
            loop.remove_reader(stdin)
        elif text := decoder.decode(data):
            frames.put_nowait({"type": "input", "data": text})

    loop.add_signal_handler(signal.SIGWINCH, lambda: frames.put_nowait({"type": "resize", **_size()}))
    loop.add_reader(stdin, read_keys)
    try:
        while True:
            await socket.send(json.dumps(await frames.get()))
    finally:
        loop.remove_reader(stdin)
        loop.remove_signal_handler(signal.SIGWINCH)


def _size() -> dict[str, int]:
    cols, rows = os.get_terminal_size(sys.stdout.fileno())
    return {"rows": min(max(rows, 1), 1000), "cols": min(max(cols, 1), 1000)}


@contextmanager
def _raw() -> Iterator[None]:
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setraw(stdin)
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def refusal(error: InvalidStatus) -> str:
    """Why the gateway refused the WebSocket, as a sentence."""
    try:
        return str(json.loads(error.response.body or b"")["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.response.status_code}."
