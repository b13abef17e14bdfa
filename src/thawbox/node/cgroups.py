"""Limits of CPU, memory and processes: one cgroup per sandbox or build step, for cgroup v1 and v2.

runsc does not manage them: it is started inside one (``gvisor.Runsc.create``), and what it starts inherits it.
Source of the files' names: the kernel's documentation, ``admin-guide/cgroup-v1`` and ``admin-guide/cgroup-v2``.
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
"""Where the hierarchies are mounted."""
_V1_CONTROLLERS = ("memory", "cpu", "pids", "freezer")

MEMORY_HEADROOM_MB = 192
"""Added to the limit of the guest for gVisor itself: its heap, page tables and gofer."""
PIDS_MAX = 8192
"""Host threads per sandbox. Each thread inside is one; gVisor has a few dozen of its own."""
CPU_PERIOD_US = 100_000
"""Period of the CPU quota in microseconds; the kernel's default."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What a sandbox or a build step may use."""

    cpu: int
    """cores"""
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one group: one on v2, one per controller on v1."""

    folders: tuple[Path, ...]

    @property
    def join_files(self) -> tuple[Path, ...]:
        """A process enters the group by writing its id into each of these files."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def _folder(self, controller: str) -> Path:
        if len(self.folders) == 1:
            return self.folders[0]
        return self.folders[_V1_CONTROLLERS.index(controller)]

    def pids(self) -> list[int]:
        """Ids of the processes inside."""
        return _procs(self.folders[0])

    def oom_kills(self) -> int:
        """How many processes the kernel killed because the group was out of memory."""
        folder = self._folder("memory")
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (folder / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        return 0


def is_v2() -> bool:
    """Whether this machine has the unified hierarchy."""
    return (ROOT / "cgroup.controllers").exists()


def of(parent: str, name: str) -> Cgroup:
    """The group ``name`` below ``parent``, whether it exists or not."""
    if is_v2():
        return Cgroup((ROOT / parent / name,))
    return Cgroup(tuple(ROOT / controller / parent / name for controller in _V1_CONTROLLERS))


def prepare_parent(parent: str) -> None:
    """Create the group that contains all groups of this node. It may exist already.

    Raises:
        RuntimeFault: a controller (memory, cpu, pids; on v1 also freezer) is not available.
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
    """Create the group if it does not exist, and set its limits.

    Raises:
        RuntimeFault: the kernel does not accept a limit.
    """
    group = of(parent, name)
    for folder in group.folders:
        folder.mkdir(exist_ok=True)
    limit(group, limits)
    return group


def limit(group: Cgroup, limits: ResourceLimits) -> None:
    """Set the limits of an existing group.

    Raises:
        RuntimeFault: the kernel does not accept one of them.
    """
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
    # The limit with swap must never be below the one without: the order depends on the direction.
    current = int((folder / "memory.limit_in_bytes").read_text())
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    for name in names if memory < current else reversed(names):
        if (folder / name).exists():
            _write(folder / name, str(memory))
    _write(group._folder("cpu") / "cpu.cfs_period_us", str(CPU_PERIOD_US))
    _write(group._folder("cpu") / "cpu.cfs_quota_us", str(quota))
    _write(group._folder("pids") / "pids.max", str(PIDS_MAX))


def remove(group: Cgroup, *, patience_s: float = 5.0) -> None:
    """Kill the processes inside and remove the group. If there is no such group, do nothing.

    Raises:
        RuntimeFault: a process is still there after ``patience_s`` seconds.
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
    """Kill all processes of the group when it is out of memory. Returns a function that stops the watch.

    The kernel kills one process, and a sandbox that has lost one of its processes hangs. On v2 ``limit`` makes the
    kernel kill the whole group, and nothing is to be done here. On v1 the kernel notifies the server, which calls
    ``note`` and then kills them; ``oom_kills`` does not count those.
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
    """Names of the groups below ``parent``."""
    folder = ROOT / parent if is_v2() else ROOT / _V1_CONTROLLERS[0] / parent
    if not folder.is_dir():
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir()]


def remove_parent(parent: str) -> None:
    """Remove the group of ``prepare_parent`` if it is empty."""
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
