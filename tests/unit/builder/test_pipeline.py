"""Whole builds, on doubles of containers, agents and host programs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from thawbox.builder.job import CopiedFiles
from thawbox.errors import BuildError, GuestFault, RuntimeFault
from thawbox.guest import GuestError
from thawbox.snapshots import layers
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.templates.recipe import (
    AptStep,
    CopyStep,
    EnvStep,
    ReadyCheck,
    ReadyKind,
    Recipe,
    RunStep,
    UserStep,
)

from .conftest import Workshop

RECIPE = Recipe(
    name="t",
    base_image="debian",
    first_number=2,
    steps=(
        RunStep(command="make"),
        EnvStep(variables=(("MODE", "test"),)),
        UserStep(user="web"),
        RunStep(command="make install"),
    ),
    cpu=1,
    memory_mb=256,
    disk_gb=1,
    start_cmd="serve",
    ready=ReadyCheck(kind=ReadyKind.PORT, target="80", timeout_ms=0),
)


async def running(workshop: Workshop, task: asyncio.Task[Version]) -> None:
    """Wait until the build runs the command that does not end."""
    reached = asyncio.create_task(workshop.agents.reached.wait())
    await asyncio.wait((task, reached), return_when=asyncio.FIRST_COMPLETED)
    assert not task.done()
    assert len(workshop.runtime.table) == 1


async def test_a_recipe_becomes_a_version_that_thaws(workshop: Workshop) -> None:
    workshop.agents.outcomes["make"] = (0, b"compiling\n\x1b[1mdone\x1b[0m\n")
    job = workshop.job(RECIPE)
    version = await workshop.build(job)

    assert versions.load(workshop.layout, version.key) == version
    assert version.thaws_with(workshop.runtime.digest)
    assert (version.env, version.workdir, version.user) == ({"PATH": "/bin", "MODE": "test"}, "/srv", "web")
    assert (version.start_cmd, version.ready) == ("serve", RECIPE.ready)
    assert (version.cpu, version.memory_mb, version.disk_gb) == (1, 256, 1)
    assert workshop.image(version) == {"base": "debian", "content": "make install;"}
    memory = versions.snapshot_path(workshop.layout, version)
    assert memory is not None
    assert (memory / "pages.img").read_text() == "\n1"  # the start command ran

    assert [call for call in workshop.agents.calls if "init" not in call.split()] == [
        "mkdir /srv",
        "spawn make",
        "mkdir /srv",
        "spawn make install",
        "mkdir /srv",
        "start serve",
        "probe port 80",
        "quiesce",
        "run pass",
    ]
    for line in ("[2/5] RUN make (first time)", "compiling", "done", "snapshot: start command: serve"):
        assert line in workshop.log
    workshop.check_nothing_is_left()


async def test_phases_and_steps_have_times(workshop: Workshop) -> None:
    job = workshop.job(RECIPE)
    await workshop.build(job)
    assert list(job.timings.phases) == ["base", "steps", "image", "snapshot"]
    assert [(step.title, step.cached) for step in job.timings.steps] == [
        ("[2/5] RUN make", False),
        ("[5/5] RUN make install", False),
    ]
    again = workshop.job(RECIPE)
    await workshop.build(again)
    assert list(again.timings.phases) == ["base", "steps"]
    assert [step.cached for step in again.timings.steps] == [True, True]


async def test_what_is_used_is_pinned_while_the_build_runs(workshop: Workshop) -> None:
    version = await workshop.build(workshop.job(RECIPE))
    assert workshop.pinned == {*version.layers, version.image, version.key}
    assert workshop.pins.names() == set()


async def test_the_same_recipe_again_runs_nothing(workshop: Workshop) -> None:
    version = await workshop.build(workshop.job(RECIPE))
    workshop.programs.ran.clear()
    assert await workshop.build(workshop.job(RECIPE)) == version
    assert workshop.agents.calls == []
    assert workshop.programs.ran == []
    assert "CACHED [2/5] RUN make" in workshop.log
    assert "image and memory snapshot: CACHED" in workshop.log


async def test_only_what_changed_runs_again(workshop: Workshop) -> None:
    first = await workshop.build(workshop.job(RECIPE))
    changed = replace(RECIPE, steps=(*RECIPE.steps[:-1], RunStep(command="make check")))
    second = await workshop.build(workshop.job(changed))
    assert "CACHED [2/5] RUN make" in workshop.log
    assert "[5/5] RUN make check (the step changed)" in workshop.log
    assert "spawn make" not in workshop.agents.calls
    assert second.layers[:-1] == first.layers[:-1]
    assert second.key != first.key


async def test_a_forced_build_runs_everything_and_its_layers_get_new_ids(workshop: Workshop) -> None:
    first = await workshop.build(workshop.job(RECIPE))
    second = await workshop.build(workshop.job(replace(RECIPE, skip_cache=True)))
    assert "[2/5] RUN make (skipCache)" in workshop.log
    assert set(second.layers) & set(first.layers) == {first.layers[0]}
    third = await workshop.build(workshop.job(RECIPE))
    assert third == second


async def test_a_snapshot_of_another_runsc_is_made_again(workshop: Workshop) -> None:
    old = await workshop.build(workshop.job(RECIPE))
    workshop.runtime.digest = "e" * 64
    new = await workshop.build(workshop.job(RECIPE))
    assert (new.key, new.image) == (old.key, old.image)
    assert new.thaws_with("e" * 64)
    folders = list(versions.folder_of(workshop.layout, new.key).glob("memory-*"))
    assert folders == [versions.snapshot_path(workshop.layout, new)]
    assert "start serve" in workshop.agents.calls
    assert "spawn make" not in workshop.agents.calls


async def test_copied_files_reach_the_step(workshop: Workshop) -> None:
    recipe = Recipe(name="t", base_image="debian", steps=(CopyStep(sources=("a",), dest="/a"),))
    files = {1: CopiedFiles(digest="1", open=lambda: iter([b"one ", b"file"]))}
    version = await workshop.build(workshop.job(recipe, files=files))
    assert workshop.image(version)["content"] == "one file>/a;"
    workshop.agents.refusals["place"] = GuestError("COPY_FAILED", "no such user: web")
    other = {1: replace(files[1], digest="2")}
    with pytest.raises(BuildError, match=r"step 1 \(COPY a /a\) failed: COPY to /a: no such user: web"):
        await workshop.build(workshop.job(recipe, files=other))
    assert "[1/1] COPY a /a (the copied files changed)" in workshop.log
    workshop.check_nothing_is_left()


async def test_apt_packages_are_quoted(workshop: Workshop) -> None:
    recipe = Recipe(name="t", base_image="debian", steps=(AptStep(packages=("git", "a b")),))
    await workshop.build(workshop.job(recipe))
    (command,) = (call for call in workshop.agents.calls if call.startswith("spawn"))
    assert "apt-get install -y -qq git 'a b' && apt-get clean" in command


async def test_a_failing_step_gives_the_reason_and_leaves_nothing(workshop: Workshop) -> None:
    workshop.agents.outcomes["make install"] = (2, b"gcc\nno rule to make target\n")
    with pytest.raises(BuildError) as failure:
        await workshop.build(workshop.job(RECIPE))
    assert failure.value.message == (
        "step 5 (RUN make install) failed: exit status 2\ngcc\nno rule to make target"
    )
    assert failure.value.step == "RUN make install"
    assert "no rule to make target" in workshop.log
    assert workshop.manifests() == []
    workshop.check_nothing_is_left()
    del workshop.agents.outcomes["make install"]
    await workshop.build(workshop.job(RECIPE))
    assert "CACHED [2/5] RUN make" in workshop.log  # what was done before the failure is kept


async def test_a_step_that_fills_the_disk_says_whose(workshop: Workshop) -> None:
    workshop.agents.outcomes["make"] = (1, b"cc: No space left on device\n")
    with pytest.raises(BuildError, match="The template's disk of 1 GB is full"):
        await workshop.build(workshop.job(RECIPE))


async def test_a_failing_ready_check_leaves_nothing(workshop: Workshop) -> None:
    workshop.agents.passes = False
    workshop.agents.start_output = b"starting\nport 80 is taken\n"
    with pytest.raises(BuildError) as failure:
        await workshop.build(workshop.job(RECIPE))
    assert failure.value.message == (
        "not ready: the ready check (port 80) did not pass within 0 s\nstarting\nport 80 is taken"
    )
    assert workshop.manifests() == []
    workshop.check_nothing_is_left()


@pytest.mark.parametrize("command", ["make", "make install", "pass"])
async def test_a_cancelled_build_leaves_nothing(workshop: Workshop, command: str) -> None:
    """In its first step, in its last step, and in the proof of the snapshot."""
    workshop.agents.endless.add(command)
    task = asyncio.create_task(workshop.build(workshop.job(RECIPE)))
    await running(workshop, task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert workshop.manifests() == []
    workshop.check_nothing_is_left()


async def test_a_snapshot_that_runs_no_program_is_not_published(workshop: Workshop) -> None:
    workshop.agents.outcomes["pass"] = (127, b"ld.so: not found")
    with pytest.raises(RuntimeFault, match=r"the thawed template cannot run a program: b'ld\.so: not found'"):
        await workshop.build(workshop.job(RECIPE))
    assert workshop.manifests() == []
    workshop.check_nothing_is_left()


async def test_a_snapshot_that_does_not_thaw_is_not_published(workshop: Workshop) -> None:
    async def trouble(method: str, container: str) -> None:
        if method == "thaw":
            raise RuntimeFault("restore failed")

    workshop.runtime.trouble = trouble
    with pytest.raises(RuntimeFault, match="restore failed"):
        await workshop.build(workshop.job(RECIPE))
    assert workshop.manifests() == []
    workshop.check_nothing_is_left()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (GuestFault("silence"), "the step's sandbox died: silence"),
        (OSError(28, "No space left on device"), "the disk of the server is full"),
        (GuestError("NO_CWD", "no such folder"), "no such folder"),
    ],
)
async def test_a_sandbox_that_fails_under_a_step_is_a_reason(
    workshop: Workshop, fault: Exception, message: str
) -> None:
    workshop.agents.refusals["init"] = fault
    with pytest.raises(BuildError, match=message):
        await workshop.build(workshop.job(RECIPE))
    workshop.check_nothing_is_left()


@pytest.mark.parametrize(
    ("starved", "message"),
    [
        (False, "the step's sandbox died: the sandbox ended"),
        (True, "out of memory: the step needed more than the template's 256 MB"),
    ],
)
async def test_a_sandbox_that_dies_under_a_step_ends_the_build(
    workshop: Workshop, starved: bool, message: str
) -> None:
    workshop.agents.endless.add("make")
    task = asyncio.create_task(workshop.build(workshop.job(RECIPE)))
    await running(workshop, task)
    (name,) = workshop.runtime.table
    if starved:
        workshop.runtime.table[name].container.oom_killed.set()
    workshop.runtime.kill(name)
    with pytest.raises(BuildError, match=message):
        await task
    workshop.check_nothing_is_left()


async def test_layers_below_the_failed_one_are_whole(workshop: Workshop) -> None:
    workshop.agents.outcomes["make install"] = (1, b"")
    with pytest.raises(BuildError):
        await workshop.build(workshop.job(RECIPE))
    names = [path.name for path in workshop.layout.layers.iterdir() if path.name != "index"]
    found = [layers.get(workshop.layout, name) for name in names]
    assert sorted(layer.about["title"] for layer in found if layer) == ["FROM debian", "RUN make"]
