"""Limits of CPU, memory and processes: one cgroup per sandbox or build step, for cgroup v1 and v2.

runsc does not know of them: it is started inside (``gvisor.Runsc.create``), and all that it starts inherits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thawbox.errors import RuntimeFault

ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("memory", "cpu", "pids", "freezer")

MEMORY_HEADROOM_MB = 192
"""What the sandbox's kernel itself may take on top of what the guest may use (its heap, page tables, gofer)."""
PIDS_MAX = 8192
"""Host threads per sandbox. Each guest task is one; the runtime's own are a few dozen."""
CPU_PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What a sandbox or a step may use."""

    cpu: int
    """whole cores"""
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one group: one on v2, one per controller on v1."""

    folders: tuple[Path, ...]

    @property
    def join_files(self) -> tuple[Path, ...]:
        """Files into which a process writes its id to enter."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def _folder(self, controller: str) -> Path:
        if len(self.folders) == 1:
            return self.folders[0]
        return self.folders[_V1_CONTROLLERS.index(controller)]

    def pids(self) -> list[int]:
        """Who is inside."""
        return _procs(self.folders[0])

    def oom_kills(self) -> int:
        """How often the kernel killed something inside for memory."""
        folder = self._folder("memory")
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (folder / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        return 0


def is_v2(root: Path = ROOT) -> bool:
    """Whether this machine has the unified hierarchy."""
    return (root / "cgroup.controllers").exists()


def of(parent: str, name: str) -> Cgroup:
    """The group ``name`` below ``parent``; it need not exist."""
    if is_v2():
        return Cgroup((ROOT / parent / name,))
    return Cgroup(tuple(ROOT / controller / parent / name for controller in _V1_CONTROLLERS))


def prepare_parent(parent: str) -> None:
    """Create the group that all of this node's groups lie in.

    Raises:
        RuntimeFault: a controller is missing.
    """
    if is_v2():
        _write(ROOT / "cgroup.subtree_control", "+memory +cpu +pids")
        (ROOT / parent).mkdir(exist_ok=True)
        _write(ROOT / parent / "cgroup.subtree_control", "+memory +cpu +pids")
        return
    for controller in _V1_CONTROLLERS:
        if not (ROOT / controller).is_dir():
            raise RuntimeFault(f"the cgroup controller {controller!r} is not mounted below {ROOT}")
        (ROOT / controller / parent).mkdir(exist_ok=True)


def create(parent: str, name: str, limits: ResourceLimits) -> Cgroup:
    """Create the group, or take the one that is there, and set its limits.

    Raises:
        RuntimeFault: the kernel refused.
    """
    group = of(parent, name)
    for folder in group.folders:
        folder.mkdir(exist_ok=True)
    limit(group, limits)
    return group


def limit(group: Cgroup, limits: ResourceLimits) -> None:
    """Set the limits of an existing group."""
    memory = (limits.memory_mb + MEMORY_HEADROOM_MB) * 1024 * 1024
    quota = limits.cpu * CPU_PERIOD_US
    if len(group.folders) == 1:
        folder = group.folders[0]
        _write(folder / "memory.max", str(memory))
        with contextlib.suppress(RuntimeFault):  # no swap accounting in this kernel
            _write(folder / "memory.swap.max", "0")
        _write(folder / "memory.oom.group", "1")
        _write(folder / "cpu.max", f"{quota} {CPU_PERIOD_US}")
        _write(folder / "pids.max", str(PIDS_MAX))
        return
    folder = group._folder("memory")
    current = int((folder / "memory.limit_in_bytes").read_text())
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    for name in names if memory < current else reversed(names):
        if (folder / name).exists():
            _write(folder / name, str(memory))
    _write(group._folder("cpu") / "cpu.cfs_period_us", str(CPU_PERIOD_US))
    _write(group._folder("cpu") / "cpu.cfs_quota_us", str(quota))
    _write(group._folder("pids") / "pids.max", str(PIDS_MAX))


def remove(group: Cgroup, *, patience_s: float = 5.0) -> None:
    """Kill what is inside and remove the group. It is no error if there is none.

    Raises:
        RuntimeFault: something inside would not die in time.
    """
    deadline = time.monotonic() + patience_s
    while True:
        for pid in {pid for folder in group.folders for pid in _procs(folder)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        left = [folder for folder in group.folders if not _rmdir(folder)]
        if not left:
            return
        if time.monotonic() > deadline:
            raise RuntimeFault(f"cgroup {left[0]} still has processes: {_procs(left[0])}")
        time.sleep(0.005)


def kill_on_oom(
    group: Cgroup, loop: asyncio.AbstractEventLoop, note: Callable[[], None]
) -> Callable[[], None]:
    """Have everything inside killed when the group is out of memory; call the result to stop watching.

    ``note`` is called first. What we kill before the kernel does is not in its count (``oom_kills``).

    The kernel kills one process, and a sandbox that lost one of its own hangs. Version 2 can be told to kill all
    (``limit`` does); version 1 tells us.
    """
    if len(group.folders) == 1:
        return lambda: None
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    folder = group._folder("memory")
    control = os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _write(folder / "cgroup.event_control", f"{event} {control}")
    except BaseException:
        os.close(event)
        raise
    finally:
        os.close(control)

    def out_of_memory() -> None:
        os.eventfd_read(event)
        note()
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def stop() -> None:
        loop.remove_reader(event)
        os.close(event)

    loop.add_reader(event, out_of_memory)
    return stop


def names(parent: str) -> list[str]:
    """The groups below ``parent``."""
    folder = ROOT / parent if is_v2() else ROOT / _V1_CONTROLLERS[0] / parent
    if not folder.is_dir():
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir()]


def remove_parent(parent: str) -> None:
    """Remove the empty group that all lay in."""
    for folder in (ROOT / parent,) if is_v2() else (ROOT / c / parent for c in _V1_CONTROLLERS):
        _rmdir(folder)


def _procs(folder: Path) -> list[int]:
    try:
        return [int(word) for word in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise RuntimeFault(f"cannot write {value!r} to {path}: {error.strerror}") from error
