"""Programs inside sandboxes, reached from outside."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from os import environ

import httpx
import pytest

from thawbox.agent_image import INTERPRETER_ARGV

from .helpers.recipes import BASE
from .server import Sandbox, Server

PYTHON = " ".join(INTERPRETER_ARGV)
SHOUT = """
import socketserver
class Shout(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read().upper())
socketserver.TCPServer(("127.0.0.1", 9000), Shout).serve_forever()
"""


@pytest.fixture(scope="module")
def sandbox(server: Server) -> Iterator[Sandbox]:
    """With a public web server on all addresses, a private one on loopback, and a private echo there."""
    server.build({"alias": "ports", "cpu": 1, "memory": 256, "diskGB": 1, "steps": [BASE]})
    with server.create("ports", public_ports=[8001]) as made:
        made.out("mkdir /www; echo hello > /www/index.html; head -c 20M /dev/urandom > /www/big")
        for line in (
            f"{PYTHON} -m http.server -d /www --bind 0.0.0.0 8001",
            f"{PYTHON} -m http.server -d /www --bind 127.0.0.1 8002",
            f"{PYTHON} -c {shlex.quote(SHOUT)}",
        ):
            made.out(f"setsid {line} >/dev/null 2>&1 &")
        made.out(
            'for p in 8001 8002 9000; do until timeout 1 bash -c "exec 3<>/dev/tcp/127.0.0.1/$p" 2>/dev/null; '
            "do sleep 0.05; done; done"
        )
        yield made


def address(sandbox: Sandbox, port: int) -> str:
    return str(sandbox.record["preview_url"]).replace("{port}", str(port))


def test_public_and_private_ports(sandbox: Sandbox) -> None:
    assert sandbox.record["public_ports"] == [8001]
    assert httpx.get(address(sandbox, 8001)).text == "hello\n"
    assert httpx.get(address(sandbox, 8002)).status_code == 401
    for port in (8001, 8002):
        whole = httpx.get(address(sandbox, port) + "big", headers=dict(sandbox.gateway.headers), timeout=60)
        assert len(whole.content) == 20 * 2**20
        missing = httpx.get(address(sandbox, port) + "missing", headers=dict(sandbox.gateway.headers))
        assert "http.server" in missing.headers["Server"] or missing.headers["Server"].startswith(
            "SimpleHTTP"
        )
    nothing = httpx.get(address(sandbox, 8003), headers=dict(sandbox.gateway.headers))
    assert (nothing.status_code, nothing.json()["code"]) == (502, "PORT_NOT_REACHABLE")


@contextlib.contextmanager
def forwarding(server: Server, sandbox: Sandbox, port: int) -> Iterator[int]:
    """``thaw forward`` as a process; the local port."""
    with subprocess.Popen(
        [sys.executable, "-m", "thawbox.cli.main", "forward", sandbox.id, f"0:{port}"],
        env={**environ, "THAWBOX_STATE": str(server.state), "THAWBOX_URL": server.url},
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        try:
            yield int(process.stderr.readline().split()[0].split(b":")[1])
        finally:
            process.terminate()


def test_raw_tcp_to_loopback(server: Server, sandbox: Sandbox) -> None:
    with (
        forwarding(server, sandbox, 9000) as port,
        socket.create_connection(("127.0.0.1", port), 20) as client,
    ):
        client.sendall(b"shout " * 200_000)
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(65536), b"")) == b"SHOUT " * 200_000
