"""What ``thaw serve`` refuses, one sentence each."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from tests.support.command_line import Thaw
from thawbox.machine.doctor import server_runs
from thawbox.state import Layout


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_not_root(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = thaw("serve")
    assert result.exit_code == 1
    assert "must run as root" in result.stderr


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("flag", ["--port", "--gateway-port"])
def test_a_port_that_is_taken(thaw: Thaw, flag: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = thaw("serve", "--port", "0", "--gateway-port", "0", flag, str(port))
    assert result.exit_code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in result.stderr
    assert flag in result.stderr


@pytest.mark.usefixtures("as_root")
def test_an_address_of_another_machine(thaw: Thaw) -> None:
    result = thaw("serve", "--host", "192.0.2.1")
    assert result.exit_code == 1
    assert "Cannot listen on 192.0.2.1" in result.stderr


@pytest.mark.usefixtures("as_root")
def test_a_state_folder_that_another_server_uses(thaw: Thaw, tmp_path: Path) -> None:
    state = tmp_path / "used"
    state.mkdir()
    assert not server_runs(state)
    with Layout(state).lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = thaw("serve", "--state", str(state))
    assert result.exit_code == 1
    assert f"Another server uses {state}" in result.stderr
    assert not (state / "local.key").exists()


def test_a_port_out_of_range_is_wrong_usage(thaw: Thaw) -> None:
    assert thaw("serve", "--port", "65536").exit_code == 2
