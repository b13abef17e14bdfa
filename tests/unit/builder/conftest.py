"""Builds on a runtime without a kernel: the real pipeline, with doubles for containers, agents and host programs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.settings import settings
from thawbox import processes
from thawbox.builder.job import BuildJob, CopiedFiles
from thawbox.builder.pipeline import build
from thawbox.images import source
from thawbox.images.values import ImageConfig, ResolvedBase
from thawbox.settings import Settings
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.pins import Pins
from thawbox.state import Layout
from thawbox.templates.recipe import Recipe
from thawbox.testing.agents import FakeAgents
from thawbox.testing.runtime import FakeRuntime

CONFIG = ImageConfig(env=(("PATH", "/bin"),), workdir="/srv", user="app")


@dataclass
class FakePrograms:
    """The programs of the host that builds run, without root."""

    ran: list[str] = field(default_factory=list)

    async def run(self, argv: Sequence[str | os.PathLike[str]], *, cwd: Path | None = None, **_: Any) -> None:
        """Do what the program would."""
        words = [os.fspath(word) for word in argv]
        self.ran.append(words[0])
        match words[0]:
            case "mount":
                assert cwd is not None
                for lower in reversed(words[-2].partition("lowerdir=")[2].split(":")):
                    shutil.copytree(cwd / lower, words[-1], dirs_exist_ok=True)
            case "umount":
                shutil.rmtree(words[-1])
                os.mkdir(words[-1])
            case "tar":
                archive, folder = (words[words.index(flag) + 1] for flag in ("--file", "--directory"))
                with tarfile.open(archive) as tar:
                    tar.extractall(folder)
            case "mkfs.erofs":
                tree = Path(words[-1])
                files = {str(path.relative_to(tree)): path.read_text() for path in sorted(tree.iterdir())}
                Path(words[-2]).write_text(json.dumps(files))
            case _:
                raise AssertionError(words)


@dataclass
class Workshop:
    """What builds run on, and what they wrote into their logs."""

    runtime: FakeRuntime
    agents: FakeAgents
    programs: FakePrograms
    settings: Settings
    pins: Pins = field(default_factory=Pins)
    log: list[str] = field(default_factory=list)
    pinned: set[str] = field(default_factory=set)

    @property
    def layout(self) -> Layout:
        return self.runtime.layout

    def job(self, recipe: Recipe, *, files: Mapping[int, CopiedFiles] | None = None) -> BuildJob:
        return BuildJob(
            organization_id=1,
            template_id=1,
            recipe=recipe,
            files=files or {},
            log=lambda level, text: self.log.append(text),
            progress=self._progress,
            once=self._once,
        )

    async def build(self, job: BuildJob) -> Version:
        """As the service does; the log begins afresh."""
        self.log.clear()
        self.agents.calls.clear()
        with self.pins.holder() as pin:
            try:
                return await build(self.runtime, self.settings, job, pin)
            finally:
                self.pinned = self.pins.names()

    def image(self, version: Version) -> dict[str, str]:
        """The files of the version's image."""
        files: dict[str, str] = json.loads((self.layout.images / version.image).read_text())
        return files

    def check_nothing_is_left(self) -> None:
        """No half-made file, mount or container."""
        assert list(self.layout.tmp.iterdir()) == []
        assert list(self.layout.mounts.iterdir()) == []
        assert self.runtime.table == {}
        assert self.runtime.slots == set()

    def manifests(self) -> list[Path]:
        return list(self.layout.snapshots.glob("*/manifest.json"))

    async def _progress(self, percent: int, what: str) -> None:
        assert 0 <= percent <= 100

    @contextlib.asynccontextmanager
    async def _once(self, key: str) -> AsyncIterator[None]:
        yield


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    layout = Layout(tmp_path / "state")
    layout.make()
    runtime = FakeRuntime(layout)
    agents = FakeAgents(runtime)
    agents.install(monkeypatch.setattr)
    programs = FakePrograms()
    monkeypatch.setattr(processes, "run", programs.run)

    async def resolve(reference: str, **_: Any) -> ResolvedBase:
        return ResolvedBase(reference, f"sha256:{reference}", "registry", False, "from a test")

    async def fetch(resolved: ResolvedBase, destination: Path, **_: Any) -> ImageConfig:
        (destination / "base").write_text(resolved.reference)
        return CONFIG

    monkeypatch.setattr(source, "resolve", resolve)
    monkeypatch.setattr(source, "fetch", fetch)
    return Workshop(runtime, agents, programs, settings(layout.state))
