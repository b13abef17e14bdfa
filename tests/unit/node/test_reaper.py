"""Which processes are reaped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thawbox.node import reaper


class FakeChildren:
    """Stands for ``os.waitpid``: some children run, some have ended, others are not ours."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.ended: set[int] = set()
        self.waited: list[int] = []

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        assert options == os.WNOHANG
        self.waited.append(pid)
        if pid in self.ended:
            self.ended.discard(pid)
            return pid, 0
        if pid in self.running:
            return 0, 0
        raise ChildProcessError


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> FakeChildren:
    fake = FakeChildren()
    monkeypatch.setattr(os, "waitpid", fake.waitpid)
    monkeypatch.setattr(reaper, "_expected", set())
    return fake


def test_only_expected_processes_are_reaped(children: FakeChildren) -> None:
    children.running = {10}
    children.ended = {20}
    reaper.expect([10])
    assert children.waited == [10]
    assert children.ended == {20}


def test_a_process_is_reaped_once(children: FakeChildren) -> None:
    children.running = {10, 11}
    reaper.expect([10, 11])
    children.running, children.ended = {11}, {10}
    reaper.expect([])
    children.waited.clear()
    reaper.expect([])
    assert children.waited == [11]


def test_another_servers_child_is_forgotten(children: FakeChildren) -> None:
    reaper.expect([30])
    reaper.expect([])
    assert children.waited == [30]


async def test_a_process_that_does_not_exist_has_ended() -> None:
    beyond = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    await reaper.exited(beyond)
