"""Asking the server on this machine what only root may, at its control socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thawbox.settings import Settings

from .failure import Failure


def ask(settings: Settings, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines that the running server answers at its control socket.

    Raises:
        Failure: it does not run or refuses, or we are not root.
    """
    with _connected(settings.state / "control.sock") as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                said = json.loads(line)
                if "error" in said:
                    raise Failure(str(said["error"]).rstrip(".") + ".")
                yield said


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except PermissionError as error:
            raise Failure(
                "Only root may ask the server this: run it with sudo, on the server's machine."
            ) from error
        except OSError as error:
            raise Failure(
                f"No server runs on the state folder {path.parent}. "
                "Start one with 'sudo thaw serve', or name its folder with --state."
            ) from error
        yield connection
