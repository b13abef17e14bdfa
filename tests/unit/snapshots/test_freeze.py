"""From an image, or a copy of a sandbox's memory, to a version that thaws."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from thawbox.errors import BuildError, GuestFault, MachineDiskFull, RuntimeFault
from thawbox.guest import GuestError
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container
from thawbox.snapshots import manifest
from thawbox.snapshots.freeze import freeze, freeze_copy, save_memory
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.start import root_of
from thawbox.state import Layout
from thawbox.testing.agents import FakeAgents
from thawbox.testing.runtime import FakeRuntime

VERSION = Version(
    key="k",
    image="i.erofs",
    layers=("base",),
    env={"MODE": "test"},
    workdir="/app",
    start_cmd="serve",
    warm=("numpy", "pandas"),
    cpu=1,
    memory_mb=256,
    disk_gb=1,
)
SAVED = replace(VERSION, key="s", from_sandbox=True)
PROOF = ["init", "run pass"]


@pytest.fixture
def runtime(layout: Layout) -> FakeRuntime:
    (layout.images / "i.erofs").touch()
    return FakeRuntime(layout, agent_image=layout.runtime / "agent-new.erofs")


@pytest.fixture
def agents(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> FakeAgents:
    monkeypatch.setattr("thawbox.snapshots.start._GRACE_S", 0)
    agents = FakeAgents(runtime)
    agents.install(monkeypatch.setattr)
    return agents


@pytest.fixture
def copied(layout: Layout) -> Path:
    """A copy of a sandbox's memory: what ran in it, and how many programs."""
    folder = layout.tmp / "save-1"
    folder.mkdir()
    (folder / "pages.img").write_text("files of the sandbox\n3")
    return folder


async def freeze_copied(runtime: FakeRuntime, copied: Path, *, internet: bool = True) -> Version:
    agent = runtime.layout.runtime / "agent-old.erofs"
    return await freeze_copy(runtime, SAVED, copied, agent_image=agent, internet=internet)


def frozen(runtime: FakeRuntime, version: Version) -> str:
    folder = manifest.snapshot_path(runtime.layout, version)
    assert folder is not None
    assert [path.name for path in folder.parent.iterdir() if path.name != "manifest.json"] == [folder.name]
    return (folder / "pages.img").read_text()


def check_nothing_is_left(runtime: FakeRuntime, *but: Path) -> None:
    """No container, no snapshot, no manifest, and no half-made file except for ``but``."""
    assert set(runtime.layout.tmp.iterdir()) == set(but)
    assert runtime.table == {}
    assert list(runtime.layout.snapshots.rglob("memory-*")) == []
    assert list(runtime.layout.snapshots.rglob("manifest.json")) == []


async def test_an_image_is_brought_to_its_start_frozen_and_proven(
    runtime: FakeRuntime, agents: FakeAgents
) -> None:
    notes: list[str] = []
    version = await freeze(runtime, VERSION, note=notes.append)
    assert agents.calls == [
        "init",
        "mkdir /app",
        "start serve",
        "command_status",
        "start_warm numpy pandas",
        "quiesce",
        *PROOF,
    ]
    assert agents.environments == [{"MODE": "test"}] * 2
    assert frozen(runtime, version) == "\n2"
    assert version.snapshot is not None
    assert version.snapshot.runsc_sha256 == runtime.digest
    assert version.snapshot.agent_image == "agent-new.erofs"
    assert manifest.load(runtime.layout, "k") == version
    assert notes[0] == "start command: serve"
    assert [note.split(" in ")[0].split(": ")[0] for note in notes[1:]] == [
        "booted and ready",
        "memory snapshot of 0 MB",
        "thawed once to prove it",
    ]
    assert list(runtime.layout.tmp.iterdir()) == []
    assert runtime.table == {}


async def test_the_snapshot_before_is_removed_when_the_new_one_is_there(
    runtime: FakeRuntime, agents: FakeAgents
) -> None:
    first = await freeze(runtime, VERSION)
    agents.outcomes["pass"] = (1, b"")
    with pytest.raises(RuntimeFault):
        await freeze(runtime, first)
    assert manifest.load(runtime.layout, "k") == first
    assert frozen(runtime, first) == "\n2"
    del agents.outcomes["pass"]
    second = await freeze(runtime, first)
    assert second.snapshot != first.snapshot
    assert frozen(runtime, second) == "\n2"  # and no other is there


async def test_a_copy_of_a_sandbox_forgets_it_and_is_proven(
    runtime: FakeRuntime, agents: FakeAgents, copied: Path
) -> None:
    version = await freeze_copied(runtime, copied)
    assert agents.calls == ["init", "renew", *PROOF]
    assert agents.environments == [None, {"MODE": "test"}]
    assert frozen(runtime, version) == "files of the sandbox\n3"
    assert version.snapshot is not None
    assert version.snapshot.runsc_sha256 == runtime.digest
    assert version.snapshot.agent_image == "agent-old.erofs"
    assert manifest.load(runtime.layout, "s") == version
    assert set(runtime.layout.tmp.iterdir()) == {copied}


@pytest.mark.parametrize("internet", [True, False])
async def test_a_copy_has_no_more_internet_than_the_sandbox(
    runtime: FakeRuntime, agents: FakeAgents, copied: Path, internet: bool
) -> None:
    seen: list[bool] = []

    async def trouble(method: str, name: str) -> None:
        if method == "thaw":
            seen.append(runtime.table[name].container.internet)

    runtime.trouble = trouble
    await freeze_copied(runtime, copied, internet=internet)
    assert seen == [internet, internet]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (VERSION, r"the thawed template cannot run a program: b'no ld\.so'"),
        (SAVED, r"the saved template cannot run a program: b'no ld\.so'"),
    ],
)
async def test_a_snapshot_that_runs_no_program_is_refused(
    runtime: FakeRuntime, agents: FakeAgents, copied: Path, version: Version, message: str
) -> None:
    agents.outcomes["pass"] = (127, b"no ld.so")
    with pytest.raises(RuntimeFault, match=message):
        await (freeze_copied(runtime, copied) if version.from_sandbox else freeze(runtime, version))
    check_nothing_is_left(runtime, copied)


async def test_an_agent_that_refuses_the_proof_is_a_fault_of_the_snapshot(
    runtime: FakeRuntime, agents: FakeAgents, copied: Path
) -> None:
    agents.refusals["run"] = GuestError("INVALID", "cannot")
    with pytest.raises(GuestFault, match=r"the agent in the thawed template refuses: cannot \(INVALID\)"):
        await freeze(runtime, VERSION)
    with pytest.raises(GuestFault, match=r"the agent in the saved template refuses: cannot \(INVALID\)"):
        await freeze_copied(runtime, copied)
    check_nothing_is_left(runtime, copied)


async def test_an_agent_that_does_not_forget_is_not_frozen(
    runtime: FakeRuntime, agents: FakeAgents, copied: Path
) -> None:
    agents.refusals["renew"] = GuestError("UNKNOWN_OPERATION", "renew")
    with pytest.raises(GuestFault, match="the agent inside cannot be restarted with empty memory: renew"):
        await freeze_copied(runtime, copied)
    assert "run pass" not in agents.calls
    check_nothing_is_left(runtime, copied)


async def test_a_start_command_that_ends_is_the_recipes_fault(
    runtime: FakeRuntime, agents: FakeAgents
) -> None:
    agents.start_status = 3
    agents.start_output = b"no such module\n"
    with pytest.raises(BuildError, match="the start command ended with status 3\nno such module"):
        await freeze(runtime, VERSION)
    check_nothing_is_left(runtime)


async def test_a_refused_start_is_the_recipes_fault(runtime: FakeRuntime, agents: FakeAgents) -> None:
    agents.refusals["mkdir"] = GuestError("ENOTDIR", "/app is a file")
    with pytest.raises(BuildError, match="the template does not start: /app is a file"):
        await freeze(runtime, VERSION)
    check_nothing_is_left(runtime)


@pytest.mark.parametrize("starved", [True, False])
async def test_death_at_the_start_is_the_recipes_fault_if_memory_was_short(
    runtime: FakeRuntime, agents: FakeAgents, starved: bool
) -> None:
    version = replace(VERSION, start_cmd=None, warm=(), ready=None)

    async def quiesce(*_: object) -> None:
        (name,) = runtime.table
        if starved:
            runtime.table[name].container.oom_killed.set()
        runtime.kill(name)
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thawbox.guest.quiesce", quiesce)
        if starved:
            with pytest.raises(BuildError, match="needs more than the template's 256 MB"):
                await freeze(runtime, version)
        else:
            with pytest.raises(RuntimeFault, match="the sandbox ended"):
                await freeze(runtime, version)
    check_nothing_is_left(runtime)


async def test_death_in_the_proof_is_noticed(runtime: FakeRuntime, agents: FakeAgents) -> None:
    agents.endless.add("pass")
    task = asyncio.create_task(freeze(runtime, VERSION))
    reached = asyncio.create_task(agents.reached.wait())
    await asyncio.wait((task, reached), return_when=asyncio.FIRST_COMPLETED)
    (name,) = runtime.table
    runtime.kill(name)
    with pytest.raises(RuntimeFault, match="the sandbox ended"):
        await task
    check_nothing_is_left(runtime)


@pytest.mark.parametrize("version", [VERSION, SAVED])
async def test_only_memory_that_cannot_be_made_again_is_written_through(
    runtime: FakeRuntime,
    agents: FakeAgents,
    copied: Path,
    version: Version,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """fsync of a snapshot takes seconds on some disks; a build must not wait for what it can make again."""
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).partition("-")[0])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await (freeze_copied(runtime, copied) if version.from_sandbox else freeze(runtime, version))
    assert synced[-1] == ".new"  # the manifest
    assert synced[:-1] == (["pages.img", "memory"] if version.from_sandbox else [])


async def booted(runtime: FakeRuntime, name: str) -> Container:
    made = await runtime.create(
        name, root=root_of(runtime, VERSION), limits=ResourceLimits(cpu=1, memory_mb=256), disk_gb=1
    )
    await runtime.boot(made)
    return made


async def test_saved_memory_is_there_with_all_of_it(runtime: FakeRuntime, layout: Layout) -> None:
    container = await booted(runtime, "sb")
    await save_memory(runtime, container, layout.paused / "sb" / "1")
    assert (layout.paused / "sb" / "1" / "pages.img").exists()
    assert runtime.table["sb"].status == "running"
    await save_memory(runtime, container, layout.paused / "sb" / "2", leave_running=False)
    assert runtime.table["sb"].status == "stopped"
    assert list(layout.tmp.iterdir()) == []


async def test_a_runtime_that_wrote_nothing_is_a_fault(runtime: FakeRuntime, layout: Layout) -> None:
    runtime.lies.add("checkpoint")
    container = await booted(runtime, "sb")
    for durable in (True, False):
        with pytest.raises(RuntimeFault, match="the memory of sb is not on disk"):
            await save_memory(runtime, container, layout.paused / "sb" / "1", durable=durable)
    assert not (layout.paused / "sb" / "1").exists()


async def test_a_full_disk_is_named_and_nothing_is_left(
    runtime: FakeRuntime, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    container = await booted(runtime, "sb")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineDiskFull):
        await save_memory(runtime, container, layout.paused / "sb" / "1")
    assert list(layout.tmp.iterdir()) == []
    assert not (layout.paused / "sb" / "1").exists()
