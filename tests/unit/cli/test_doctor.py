"""``thaw doctor`` and the checks that need no root."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import Thaw
from thawbox.machine import doctor
from thawbox.machine.finding import Finding
from thawbox.settings import Settings

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
