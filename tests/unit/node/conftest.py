"""Fixtures for the node without a kernel: commands are recorded, cgroups are plain folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import FakeKernel, FakeStart
from thawbox import processes
from thawbox.errors import RuntimeFault
from thawbox.node import cgroups, reaper, slots
from thawbox.processes import ProgramResult
from thawbox.state import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "state")
    made.make()
    return made


@pytest.fixture
def inputs() -> list[bytes | None]:
    """Standard input of each command in ``commands``."""
    return []


@pytest.fixture
def outputs() -> dict[str, bytes]:
    """Word of a command line -> what such a command prints. ``b"!"``: it fails."""
    return {}


@pytest.fixture
def commands(
    monkeypatch: pytest.MonkeyPatch, inputs: list[bytes | None], outputs: dict[str, bytes]
) -> list[list[str]]:
    """Every command line that the runner of programs is given; nothing is run."""
    given: list[list[str]] = []

    async def run(
        argv: list[str | os.PathLike[str]], *, stdin: bytes | None = None, check: bool = True, **_: Any
    ) -> ProgramResult:
        words = [os.fspath(word) for word in argv]
        given.append(words)
        inputs.append(stdin)
        output = next((text for word, text in outputs.items() if word in words), b"")
        if output == b"!" and check:
            raise RuntimeFault(f"{words[0]} ended with status 1")
        return ProgramResult(0, output, ())

    monkeypatch.setattr(processes, "run", run)
    return given


def _remove_as_the_kernel(root: Path) -> Callable[[Path], None]:
    """cgroupfs: a group's files go with its folder, but a group with processes is busy."""
    remove = Path.rmdir

    def rmdir(folder: Path) -> None:
        if root in folder.parents and folder.is_dir():
            procs = folder / "cgroup.procs"
            if procs.exists() and procs.read_text().strip():
                raise OSError(16, "Device or resource busy")
            for file in folder.iterdir():
                if file.is_file():
                    file.unlink()
        remove(folder)

    return rmdir


@pytest.fixture
def cgroup_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that stands for /sys/fs/cgroup; without controllers yet."""
    root = tmp_path / "cgroup"
    root.mkdir()
    monkeypatch.setattr(cgroups, "ROOT", root)
    monkeypatch.setattr(Path, "rmdir", _remove_as_the_kernel(root))
    return root


@pytest.fixture
def cgroup_v2(cgroup_root: Path) -> Path:
    (cgroup_root / "cgroup.controllers").write_text("cpu memory pids\n")
    return cgroup_root


@pytest.fixture
def cgroup_v1(cgroup_root: Path) -> Path:
    for controller in ("memory", "cpu", "pids", "freezer"):
        (cgroup_root / controller).mkdir()
    return cgroup_root


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """Network slots that are numbers."""
    fake = FakeKernel()
    for name in ("make", "refresh", "destroy"):
        monkeypatch.setattr(slots, name, getattr(fake, name))
    monkeypatch.setattr(slots, "existing", lambda network: set(fake.existing))
    return fake


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> FakeStart:
    """The start of containers: nothing is run."""
    fake = FakeStart()
    monkeypatch.setattr(reaper, "start_and_wait", fake)
    return fake
