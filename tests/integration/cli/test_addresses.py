"""``thaw url`` and ``thaw forward``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from websockets.sync.server import Server as WebSocketServer
from websockets.sync.server import ServerConnection, serve

from tests.support import signals
from tests.support.command_line import Thaw
from tests.support.fake_api import KEY, Fake


@pytest.fixture
def sandbox(logged_in: Fake) -> str:
    logged_in.sandboxes["box"] = {
        "id": "box",
        "status": "running",
        "public_host": "http://box.example.test:7777",
        "preview_url": "http://{port}-box.example.test:7777/",
        "public_ports": [8000],
    }
    return "box"


def test_url(thaw: Thaw, sandbox: str, logged_in: Fake) -> None:
    private = thaw("url", sandbox, "3000")
    assert private.stdout == "http://3000-box.example.test:7777/\n"
    assert "Private" in private.stderr
    assert "Public" in thaw("url", sandbox, "8000").stderr
    assert thaw("url", sandbox, "3000", "--token").stdout.endswith("test:7777/?token=eyJ.token\n")
    logged_in.sandboxes[sandbox]["public_ports"] = True
    assert "Public" in thaw("url", sandbox, "3000").stderr
    logged_in.sandboxes[sandbox]["preview_url"] = "http://127.0.0.1:7777/ports/box/{port}/"
    assert thaw("url", sandbox, "3000").stdout == "http://127.0.0.1:7777/ports/box/3000/\n"
    refused = thaw("url", sandbox, "3000", "--token")
    assert (refused.exit_code, "THAWBOX_DOMAIN" in refused.stderr) == (1, True)


@pytest.mark.parametrize("ports", ["x", "1:2:3", "0", "70000", "-1", ":80", "80:", "8\u0660"])
def test_ports_that_are_none(thaw: Thaw, sandbox: str, ports: str) -> None:
    assert thaw("forward", sandbox, "--", ports).exit_code == 2


def shout(websocket: ServerConnection) -> None:
    """Answers when the client has ended its side."""
    assert websocket.request is not None
    assert websocket.request.headers["Authorization"] == "Bearer eyJ.token"
    assert websocket.request.path == "/tcp/5432"
    got = b""
    for message in websocket:
        if isinstance(message, str):
            break
        got += message
    websocket.send(got.upper())
    websocket.send("end")
    with contextlib.suppress(Exception):
        websocket.recv()


@pytest.fixture
def gateway(logged_in: Fake, sandbox: str) -> Iterator[WebSocketServer]:
    with serve(shout, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        logged_in.sandboxes[sandbox]["public_host"] = address
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def forwarding(server: Fake, ports: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The command as a process, and the port that it says it listens on."""
    environment = {**os.environ, "THAWBOX_URL": server.url, "THAWBOX_API_KEY": KEY}
    with subprocess.Popen(
        [sys.executable, "-m", "thawbox.cli.main", "forward", "box", ports],
        env=environment,
        stderr=subprocess.PIPE,
        preexec_fn=signals.heard,
    ) as process:
        assert process.stderr is not None
        try:
            yield int(process.stderr.readline().split()[0].split(b":")[1]), process
        finally:
            process.kill()


def test_forward(logged_in: Fake, gateway: WebSocketServer) -> None:
    with forwarding(logged_in, "0:5432") as (port, process):
        for text in (b"hello", b"again" * 100_000):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(text)
                client.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: client.recv(65536), b"")) == text.upper()
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            process.send_signal(signal.SIGINT)  # also with a connection open
            assert process.wait(20) == 130


def test_forward_says_why_not(logged_in: Fake, sandbox: str) -> None:
    logged_in.sandboxes[sandbox]["public_host"] = logged_in.url  # it knows no /tcp
    with (
        forwarding(logged_in, "0:5432") as (port, process),
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"thaw: ")
