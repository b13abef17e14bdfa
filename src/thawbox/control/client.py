"""Requests to the server on this machine over its control socket, which only root can open."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thawbox.errors import ThawboxError
from thawbox.settings import Settings
from thawbox.state import Layout


class ControlFailed(ThawboxError):
    """The server refused the request, or this program may not make it."""


class ServerNotRunning(ControlFailed):
    """No server listens at the state folder's control socket."""


def send_request(settings: Settings, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Send a request (see ``server``) and yield the lines of the answer as they come. Blocks.

    Raises:
        ServerNotRunning: no server uses this state folder.
        ControlFailed: the server refuses, or this program does not run as root.
    """
    with _connected(Layout(settings.state).control_socket) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise ControlFailed(str(answer["error"]).rstrip(".") + ".")
                yield answer


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except PermissionError as error:
            raise ControlFailed(
                "Only root may use the server's control socket: run this with sudo, on the server's machine."
            ) from error
        except OSError as error:
            raise ServerNotRunning(
                f"No server runs on the state folder {path.parent}. "
                "Start one with 'sudo thaw serve', or name its folder with --state."
            ) from error
        yield connection
