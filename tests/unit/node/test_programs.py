"""Ending the programs of a container: what the agent is asked, and the program that does it."""

from __future__ import annotations

import builtins
import io
from types import SimpleNamespace
from typing import Any

import pytest

from thawbox import guest
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import GuestFault
from thawbox.guest import Completed, Endpoint
from thawbox.node import programs

ENDPOINT = Endpoint("192.0.2.1", 7777, "s")


class FakeAgent:
    def __init__(self, exit_code: int, stderr: bytes = b"") -> None:
        self.exit_code, self.stderr = exit_code, stderr
        self.argv: list[str] = []
        self.timeout = 0.0

    async def run(self, endpoint: Endpoint, *, argv: list[str], timeout: float) -> Completed:
        assert endpoint == ENDPOINT
        self.argv, self.timeout = argv, timeout
        return completed(self.exit_code, self.stderr)


def completed(exit_code: int, stderr: bytes) -> Completed:
    done: Any = SimpleNamespace(exit_code=exit_code, stderr=stderr)
    return done  # type: ignore[no-any-return]


async def test_the_agents_python_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = FakeAgent(0)
    monkeypatch.setattr(guest, "run", agent.run)
    await programs.end_all(ENDPOINT)
    assert agent.argv == [*INTERPRETER_ARGV, "-c", programs.SCRIPT]
    assert agent.timeout > 2 * programs.GRACE_S  # both signals have their time


async def test_programs_that_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "run", FakeAgent(1, b"trouble").run)
    with pytest.raises(GuestFault, match=r"^the programs inside do not end \(status 1\): trouble$"):
        await programs.end_all(ENDPOINT)


class FakeMachine:
    """Stands for the modules ``os`` and ``time`` of the script. A process has the signals that end it."""

    def __init__(self, **ended_by: set[int]) -> None:
        self.processes = {int(name[1:]): signals for name, signals in ended_by.items()}
        self.zombies: set[int] = set()
        self.sent: list[int] = []
        self.synced = False
        self.now = 0.0

    def listdir(self, path: str) -> list[str]:
        assert path == "/proc"
        return ["1", "99", *map(str, self.processes), *map(str, self.zombies), "meminfo"]

    def getpid(self) -> int:
        return 99

    def kill(self, pid: int, signal: int) -> None:
        assert pid == -1
        self.sent.append(signal)
        self.processes = {pid: ends for pid, ends in self.processes.items() if signal not in ends}

    def sync(self) -> None:
        self.synced = True

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def open(self, path: str) -> io.StringIO:
        pid = int(path.split("/")[2])
        return io.StringIO(f"{pid} (a) b) {'Z' if pid in self.zombies else 'S'} 1 1")

    def run(self) -> bool:
        """Run the script. Returns whether it says that a program is left."""
        names = {**vars(builtins), "__import__": lambda *_: self, "open": self.open}
        with pytest.raises(SystemExit) as ended:
            exec(compile(programs.SCRIPT, "script", "exec"), {"__builtins__": names})
        assert self.synced
        return bool(ended.value.code)


def test_programs_that_end_when_asked() -> None:
    machine = FakeMachine(p7={15, 9}, p8={15, 9})
    assert machine.run() is False
    assert machine.sent == [15]


def test_programs_that_must_be_killed() -> None:
    machine = FakeMachine(p7={15, 9}, p8={9})
    assert machine.run() is False
    assert machine.sent == [15, 9]
    assert machine.now >= programs.GRACE_S


def test_nobody_is_there() -> None:
    machine = FakeMachine()
    machine.zombies.add(5)
    assert machine.run() is False
    assert machine.sent == []


def test_a_program_that_cannot_be_killed() -> None:
    machine = FakeMachine(p7=set())
    assert machine.run() is True
    assert machine.sent[:2] == [15, 9]
    assert machine.now >= 2 * programs.GRACE_S
