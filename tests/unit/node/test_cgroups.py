"""Groups and their limits, in the files of cgroup v1 and v2."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.node import cgroups
from thawbox.node.cgroups import ResourceLimits

LIMITS = ResourceLimits(cpu=2, memory_mb=512)
BYTES = str((512 + 192) * 1024 * 1024)


def test_one_folder_on_v2(cgroup_v2: Path) -> None:
    group = cgroups.of("thawbox-x", "sb-1")
    assert group.folders == (cgroup_v2 / "thawbox-x" / "sb-1",)
    assert group.join_files == (cgroup_v2 / "thawbox-x" / "sb-1" / "cgroup.procs",)


def test_one_folder_per_controller_on_v1(cgroup_v1: Path) -> None:
    group = cgroups.of("thawbox-x", "sb-1")
    expected = [cgroup_v1 / name / "thawbox-x" / "sb-1" for name in ("memory", "cpu", "pids", "freezer")]
    assert list(group.folders) == expected
    assert list(group.join_files) == [folder / "cgroup.procs" for folder in expected]


def test_limits_on_v2(cgroup_v2: Path) -> None:
    cgroups.prepare_parent("thawbox-x")
    group = cgroups.create("thawbox-x", "sb-1", LIMITS)
    assert {file.name: file.read_text() for file in group.folders[0].iterdir()} == {
        "memory.max": BYTES,
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "200000 100000",
        "pids.max": "8192",
    }
    for folder in (cgroup_v2, cgroup_v2 / "thawbox-x"):
        assert (folder / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def v1_group(root: Path, memory: str, *, swap: bool = True) -> cgroups.Cgroup:
    """A group as the kernel makes one, with its present limits."""
    cgroups.prepare_parent("thawbox-x")
    group = cgroups.of("thawbox-x", "sb-1")
    for folder in group.folders:
        folder.mkdir()
    (group.folders[0] / "memory.limit_in_bytes").write_text(memory)
    if swap:
        (group.folders[0] / "memory.memsw.limit_in_bytes").write_text(memory)
    return group


def test_limits_on_v1(cgroup_v1: Path) -> None:
    v1_group(cgroup_v1, "9223372036854771712")
    group = cgroups.create("thawbox-x", "sb-1", LIMITS)
    memory, cpu, pids, freezer = group.folders
    assert (memory / "memory.limit_in_bytes").read_text() == BYTES
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == BYTES
    assert (cpu / "cpu.cfs_period_us").read_text() == "100000"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "200000"
    assert (pids / "pids.max").read_text() == "8192"
    assert list(freezer.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "order"),
    [
        ("9223372036854771712", ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
        ("1048576", ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]),
    ],
    ids=["smaller", "larger"],
)
def test_the_limit_with_swap_is_never_below_the_one_without(
    cgroup_v1: Path, before: str, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = v1_group(cgroup_v1, before)
    written: list[str] = []
    write = Path.write_text

    def recorded(path: Path, text: str) -> int:
        written.append(path.name)
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", recorded)
    cgroups.limit(group, LIMITS)
    assert [name for name in written if name.startswith("memory.")] == order


def test_a_kernel_without_swap_accounting_on_v1(cgroup_v1: Path) -> None:
    group = v1_group(cgroup_v1, "1048576", swap=False)
    cgroups.limit(group, LIMITS)
    assert not (group.folders[0] / "memory.memsw.limit_in_bytes").exists()
    assert (group.folders[0] / "memory.limit_in_bytes").read_text() == BYTES


def test_a_kernel_without_swap_accounting_on_v2(cgroup_v2: Path) -> None:
    cgroups.prepare_parent("thawbox-x")
    group = cgroups.of("thawbox-x", "sb-1")
    (group.folders[0] / "memory.swap.max").mkdir(parents=True)  # cannot be written
    cgroups.limit(group, LIMITS)
    assert (group.folders[0] / "pids.max").read_text() == "8192"


def test_a_limit_that_is_not_accepted(cgroup_v2: Path) -> None:
    group = cgroups.of("thawbox-x", "sb-1")
    (group.folders[0] / "memory.max").mkdir(parents=True)
    with pytest.raises(RuntimeFault, match=rf"^cannot write '{BYTES}' to {group.folders[0]}/memory.max: "):
        cgroups.limit(group, LIMITS)


def test_a_missing_controller(cgroup_v1: Path) -> None:
    (cgroup_v1 / "pids").rmdir()
    with pytest.raises(RuntimeFault, match="controller 'pids' is not mounted"):
        cgroups.prepare_parent("thawbox-x")


def test_names_and_the_end_of_the_parent(cgroup_v1: Path) -> None:
    assert cgroups.names("thawbox-x") == []
    v1_group(cgroup_v1, "1048576")
    (cgroup_v1 / "memory" / "thawbox-x" / "tasks").touch()
    assert cgroups.names("thawbox-x") == ["sb-1"]
    cgroups.remove(cgroups.of("thawbox-x", "sb-1"))
    cgroups.remove_parent("thawbox-x")
    assert [path for path in cgroup_v1.rglob("*") if path.name == "thawbox-x"] == []


def test_names_on_v2(cgroup_v2: Path) -> None:
    cgroups.prepare_parent("thawbox-x")
    cgroups.create("thawbox-x", "sb-1", LIMITS)
    assert cgroups.names("thawbox-x") == ["sb-1"]
    cgroups.remove(cgroups.of("thawbox-x", "sb-1"))
    cgroups.remove_parent("thawbox-x")
    assert not (cgroup_v2 / "thawbox-x").exists()


@pytest.mark.parametrize("version", ["cgroup_v1", "cgroup_v2"])
def test_removal_kills_what_is_inside(
    version: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue(version)
    group = cgroups.of("thawbox-x", "sb-1")
    for folder in group.folders:
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("41\n42\n")
    alive = {41, 42}

    def kill(pid: int, signal: int) -> None:
        assert signal == 9
        alive.discard(pid)
        for file in group.join_files:
            if file.exists():
                file.write_text("\n".join(map(str, sorted(alive))))
        if pid == 42:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    assert group.pids() == [41, 42]
    cgroups.remove(group)
    assert alive == set()
    assert not any(folder.exists() for folder in group.folders)
    cgroups.remove(group)  # once more: nothing to do


def test_a_process_that_does_not_die(cgroup_v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = cgroups.of("thawbox-x", "sb-1")
    group.folders[0].mkdir(parents=True)
    group.join_files[0].write_text("41\n")
    monkeypatch.setattr(os, "kill", lambda pid, signal: None)
    with pytest.raises(RuntimeFault, match=r"still has processes: \[41\]"):
        cgroups.remove(group, patience_s=0)


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [
        ("cgroup_v2", "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 1\n"),
        ("cgroup_v1", "memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 2\n"),
    ],
)
def test_kills_for_memory_are_counted(
    version: str, file: str, text: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(version)
    group = cgroups.of("thawbox-x", "sb-1")
    assert group.oom_kills() == 0
    for folder in group.folders:
        folder.mkdir(parents=True)
    (group.folders[0] / file).write_text(text)
    assert group.oom_kills() == 2


async def test_on_v1_the_server_kills_the_group_that_is_out_of_memory(
    cgroup_v1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = v1_group(cgroup_v1, "1048576")
    group.join_files[0].write_text("41\n42\n")
    (group.folders[0] / "memory.oom_control").write_text("")
    killed: list[int] = []
    done = asyncio.Event()

    def kill(pid: int, _signal: int) -> None:
        killed.append(pid)
        if len(killed) == 2:
            done.set()
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    noted: list[bool] = []
    loop = asyncio.get_running_loop()
    stop = cgroups.kill_on_oom(group, loop, lambda: noted.append(not killed))
    try:
        # The kernel is given an eventfd and the file to watch, and writes to the first.
        event, _ = (group.folders[0] / "cgroup.event_control").read_text().split()
        os.eventfd_write(int(event), 1)
        await asyncio.wait_for(done.wait(), 60)
    finally:
        stop()
    assert (killed, noted) == ([41, 42], [True])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(int(event))


async def test_on_v2_the_kernel_does_it(cgroup_v2: Path) -> None:
    group = cgroups.of("thawbox-x", "sb-1")
    cgroups.kill_on_oom(group, asyncio.get_running_loop(), lambda: None)()
    assert not group.folders[0].exists()
