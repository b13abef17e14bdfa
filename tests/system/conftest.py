"""A real server on a state folder of its own, for all system tests."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share; everybody uses template names of their own."""
    with Server(tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path, server: Server) -> Iterator[Server]:
    """A server, not started, for a test that kills it, counts what it left, or needs other settings."""
    with server_of_its_own(tmp_path, server) as own:
        yield own


@contextlib.contextmanager
def server_of_its_own(folder: Path, server: Server, image: str = "debian:12") -> Iterator[Server]:
    """A server, not started, with ``image`` and what other base images the shared server has by now.

    They take 20 s each to make.
    """
    server.build({"alias": f"base-{time.time_ns()}", "steps": [{"type": "from", "image": image}]})
    own = Server(folder / "state")
    own.state.mkdir(mode=0o700)
    subprocess.run(["cp", "-al", server.state / "layers", own.state / "layers"], check=True)
    try:
        yield own
    finally:
        own.remove()
