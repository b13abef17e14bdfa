"""``thaw doctor``: the checks themselves, as far as they need no root."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from thawbox.machine import doctor
from thawbox.settings import load


async def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_path: Path) -> Path:
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "existing_parent", broken)
    monkeypatch.setattr("thawbox.machine.doctor_kernel.CHECKS", ())
    findings = {finding.name: finding for finding in await doctor.check(load())}
    assert findings["disk"].ok is False
    assert "boom" in findings["disk"].detail


async def test_every_finding_that_is_not_fine_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawbox.machine.doctor_kernel.CHECKS", ())
    monkeypatch.setattr("thawbox.machine.doctor.os.geteuid", lambda: 1000)
    findings = await doctor.check(load())
    assert next(finding for finding in findings if finding.name == "root").ok is False
    assert all(finding.why for finding in findings if finding.ok is not True)


async def test_ports_tell_a_running_server_from_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawbox.machine.doctor_kernel.CHECKS", ())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = load(port=other.getsockname()[1], gateway_port=0)
        ports = {finding.name: finding for finding in await doctor.check(settings)}["ports"]
        assert ports.ok is None
        assert str(settings.port) in ports.detail
        monkeypatch.setattr(doctor, "server_runs", lambda _state: True)
        ports = {finding.name: finding for finding in await doctor.check(settings)}["ports"]
        assert ports.ok is True
