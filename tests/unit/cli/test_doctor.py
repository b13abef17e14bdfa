"""``thaw doctor`` and the checks that need no root."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support.command_line import Thaw
from thawbox.machine import doctor
from thawbox.machine.finding import Finding
from thawbox.settings import Settings, load

FINE = Finding("root", True, "running as root")
ADVICE = Finding("rcu", None, "off", "slow", "echo 1 > /sys/x")
BAD = Finding("erofs", False, "mkfs.erofs cannot be started", "images", "apt-get install -y erofs-utils")


def found(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    async def check(_settings: Settings) -> list[Finding]:
        return list(findings)

    monkeypatch.setattr("thawbox.cli.doctor.check", check)


def test_advice_alone_is_no_failure(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, FINE, ADVICE)
    result = thaw("doctor")
    assert result.exit_code == 0
    assert "why: slow" in result.stdout
    assert "fix: echo 1 > /sys/x" in result.stdout


def test_something_necessary_missing_is_status_1_with_the_command_that_mends_it(
    thaw: Thaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, FINE, BAD)
    result = thaw("doctor")
    assert result.exit_code == 1
    assert "MISSING" in result.stdout
    assert "apt-get install -y erofs-utils" in result.stdout


def test_json_holds_every_finding(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, FINE, BAD)
    result = thaw("doctor", "--json")
    assert result.exit_code == 1
    assert [(entry["name"], entry["ok"]) for entry in json.loads(result.stdout)] == [
        ("root", True),
        ("erofs", False),
    ]


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


@pytest.mark.parametrize(("answer", "ok"), [(b"", False), (b"\x54\x42\x81\x05" + bytes(8), True)])
def test_a_name_server_counts_when_it_answers(
    answer: bytes, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def settimeout(self, _seconds: float) -> None: ...

        def connect(self, _address: object) -> None: ...

        def send(self, _question: bytes) -> None: ...

        def recv(self, _size: int) -> bytes:
            if not answer:
                raise TimeoutError
            return answer

    monkeypatch.setattr("thawbox.machine.doctor.socket.socket", lambda *_: Client())
    assert doctor.name_server_answers("192.0.2.1") is ok
