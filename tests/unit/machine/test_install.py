"""Set-up of a state folder: what is built, what is taken from before, and what has been proven."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.machine import install as installing
from thawbox.machine import runsc_build, selftest
from thawbox.machine.facts import machine_facts
from thawbox.machine.store import Store
from thawbox.node import installed
from thawbox.settings import Settings, load
from thawbox.state import Layout

Folder = Callable[[str], Settings]


class Builds(list[str]):
    """The sources of each build, and those that a build would have now."""

    sources = "sources"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    """Instead of gVisor, a file is built."""
    made = Builds()

    async def build(store: Store, _report: object) -> Path:
        made.append(made.sources)
        with store.workspace() as folder:
            program = folder / "runsc"
            program.write_text(f"runsc {len(made)}")
            program.chmod(0o755)
            return store.keep_runsc(made[-1], program)

    monkeypatch.setattr(installing, "build_runsc", build)
    monkeypatch.setattr(installing, "sources", lambda: made.sources)
    for name in ("THAWBOX_RUNSC_URL", "THAWBOX_RUNSC_SHA512"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def tests(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Instead of real sandboxes, a test that passes; the list holds the runsc of each run."""
    run: list[Path] = []

    class Node:
        def __init__(self, settings: Settings) -> None:
            self.runsc = installed.open_runsc(settings)

        async def remove_leftovers(self, keep: tuple[str, ...]) -> None: ...

    async def open_node(settings: Settings) -> Node:
        return Node(settings)

    async def exercise(node: Node) -> list[float]:
        run.append(node.runsc.binary)
        return [1.0]

    async def close(*_: object, **__: object) -> None: ...

    monkeypatch.setattr("thawbox.machine.selftest.node_open.open_node", open_node)
    monkeypatch.setattr("thawbox.machine.selftest.node_open.close_node", close)
    monkeypatch.setattr(selftest, "_exercise", exercise)
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Settings of a state folder of this name; all share one machine."""
    agent = tmp_path / "agent-1.erofs"
    agent.touch()
    return lambda name: load(state=tmp_path / name, shared_runtime=tmp_path / "shared", agent_image=agent)


def install(settings: Settings) -> list[str]:
    lines: list[str] = []
    installing.install(settings, lines.append)
    return lines


def runsc(settings: Settings) -> Path:
    return Layout(settings.state).runtime / "runsc"


def test_a_second_state_folder_builds_and_tests_nothing(
    folder: Folder, builds: Builds, tests: list[Path]
) -> None:
    first, second = folder("first"), folder("second")
    install(first)
    assert len(builds) == len(tests) == 1
    lines = install(second)
    assert len(builds) == len(tests) == 1
    assert runsc(second).samefile(runsc(first))
    assert any("built before on this machine" in line for line in lines)
    assert any(line.startswith("self-test: passed before") for line in lines)
    assert selftest.is_proven(first)
    assert selftest.is_proven(second)


def test_a_second_run_finds_all_up_to_date(folder: Folder, builds: Builds, tests: list[Path]) -> None:
    install(folder("one"))
    lines = install(folder("one"))
    assert any("is up to date" in line for line in lines)
    assert len(builds) == len(tests) == 1


def test_other_sources_are_built_and_the_runsc_of_others_stays(
    folder: Folder, builds: Builds, tests: list[Path]
) -> None:
    first, second = folder("first"), folder("second")
    install(first)
    builds.sources = "others"
    install(second)
    assert len(builds) == len(tests) == 2
    assert runsc(first).read_text() == "runsc 1"
    assert runsc(second).read_text() == "runsc 2"


def test_a_runsc_that_others_may_write_is_built_again(
    folder: Folder, builds: Builds, tests: list[Path], tmp_path: Path
) -> None:
    install(folder("first"))
    (shared,) = (tmp_path / "shared").glob("runsc-*")
    shared.chmod(0o777)
    install(folder("second"))
    assert len(builds) == 2
    assert len(tests) == 2  # another file, another proof


def test_what_a_state_folder_has_is_there_for_the_next(
    folder: Folder, builds: Builds, tests: list[Path], tmp_path: Path
) -> None:
    install(folder("first"))
    for path in (tmp_path / "shared").glob("runsc-*"):
        path.unlink()
    install(folder("first"))
    install(folder("second"))
    assert len(builds) == 1


def test_a_set_up_that_was_cut_short_is_done_again(
    folder: Folder, builds: Builds, tests: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder("first")
    install(first)
    builds.sources = "others"
    with monkeypatch.context() as cut:
        cut.setattr(installing, "link_or_copy", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            install(first)
    builds.sources = "sources"
    lines = install(first)
    assert not any("is up to date" in line for line in lines)
    assert runsc(first).read_text() == "runsc 1"


def test_a_configured_runsc_is_used_as_it_is(
    folder: Folder, builds: Builds, tests: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.write_text("program")
    settings = folder("one").model_copy(update={"runsc": own})
    with pytest.raises(RuntimeFault, match=f"THAWBOX_RUNSC={own} is not a program"):
        install(settings)
    own.chmod(0o755)
    install(settings)
    assert builds == []
    assert tests == [own]


def test_a_state_folder_notes_which_agent_its_next_server_takes(
    folder: Folder, builds: Builds, tests: list[Path]
) -> None:
    install(folder("first"))
    second = folder("second")
    assert selftest.agent_that_passed(Layout(second.state)) is None
    install(second)
    assert selftest.agent_that_passed(Layout(second.state)) == "agent-1.erofs"


async def test_a_note_alone_proves_nothing(
    folder: Folder, builds: Builds, tests: list[Path], tmp_path: Path
) -> None:
    settings = folder("one")
    layout = Layout(settings.state)
    layout.make()
    runsc(settings).write_text("somebody's")
    selftest.note_path(layout).write_text(json.dumps(selftest._subject(settings)))
    assert not selftest.is_proven(settings)
    assert "1 thaws" in await selftest.run_selftest(settings)
    assert selftest.is_proven(settings)
    for verdict in (tmp_path / "shared" / "verdicts").iterdir():
        verdict.chmod(0o666)
    assert not selftest.is_proven(settings)


@pytest.mark.parametrize("fact", ["kernel", "kernel_build", "cpu", "cgroups"])
async def test_a_machine_that_changed_is_tested_again(
    fact: str, folder: Folder, builds: Builds, tests: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = folder("one")
    layout = Layout(settings.state)
    layout.make()
    runsc(settings).write_text("program")
    await selftest.run_selftest(settings)
    facts = {**machine_facts(), fact: "another"}
    monkeypatch.setattr(selftest, "machine_facts", lambda: facts)
    assert not selftest.is_proven(settings)
    await selftest.run_selftest(settings)
    assert len(tests) == 2


async def test_a_verdict_that_cannot_be_kept_stops_nobody(
    folder: Folder, builds: Builds, tests: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "shared").touch()  # no folder can be made there
    settings = folder("one")
    layout = Layout(settings.state)
    layout.make()
    runsc(settings).write_text("program")
    assert "1 thaws" in await selftest.run_selftest(settings)
    assert not selftest.is_proven(settings)


def test_sources_are_every_file_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "precompile").mkdir()
    for name in ("go.mod", "precompile/linkname.s"):
        (tmp_path / name).write_text("a")
    before = runsc_build.sources(tmp_path)
    for name in ("go.mod", "precompile/linkname.s"):
        (tmp_path / name).write_text("b")
        after = runsc_build.sources(tmp_path)
        assert after != before
        before = after
