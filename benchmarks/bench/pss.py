"""Proportional set size: what a process costs, pages that it shares divided by how many share them."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable
from pathlib import Path

from thawbox.node import cgroups

KINDS = ("total", "anon", "file", "shmem")
"""anon: heaps. file: mapped files. shmem: the guest's memory."""
_SYS_KCMP, _KCMP_VM = 312, 1
_FIELDS = {"Pss": "total", "Pss_Anon": "anon", "Pss_File": "file", "Pss_Shmem": "shmem"}


def of_processes(pids: Iterable[int]) -> dict[str, float]:
    """Sum over these processes, kind -> MB (10^6 bytes). Processes that have ended count nothing.

    Processes that share one address space, as the stubs of gVisor's systrap do, count once.

    Raises:
        LookupError: none of them is there.
    """
    sums = dict.fromkeys(KINDS, 0.0)
    seen: list[int] = []
    for pid in sorted(set(pids)):
        if any(_share_memory(pid, other) for other in seen):
            continue
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            seen.append(pid)
            for line in lines[1:]:
                name, _, value = line.partition(":")
                if name in _FIELDS:
                    sums[_FIELDS[name]] += int(value.split()[0]) * 1024 / 1e6
    if not seen:
        raise LookupError("none of the processes is there any more")
    return sums


def group_of(sandbox_id: str) -> cgroups.Cgroup:
    """The cgroup of a sandbox of any server on this machine.

    Raises:
        LookupError: there is none.
    """
    for pattern in ("thawbox-*/", "memory/thawbox-*/"):
        for folder in cgroups.ROOT.glob(pattern + sandbox_id):
            return cgroups.of(folder.parent.name, sandbox_id)
    raise LookupError(f"no cgroup of sandbox {sandbox_id} below {cgroups.ROOT}")


def _share_memory(one: int, other: int) -> bool:
    """Whether two processes have the same address space (x86_64 only, as all of this is)."""
    return bool(ctypes.CDLL(None).syscall(_SYS_KCMP, one, other, _KCMP_VM, 0, 0) == 0)
