"""Finds what a crash has left on this machine, by name, and removes it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Collection

from thawbox import log as logs
from thawbox.errors import RuntimeFault
from thawbox.state import Layout

from . import cgroups, gvisor, slots
from .container import Container

log = logs.get(__name__)


async def remove_leftovers(
    runsc: gvisor.Runsc,
    layout: Layout,
    network: slots.Network,
    cgroup_parent: str,
    *,
    keep: Collection[Container],
) -> dict[str, int]:
    """Remove containers, cgroups, slots, bundles, writable layers and temporary files, except what ``keep`` uses.

    Call it before anything new is made: all that is below ``layout.tmp`` goes. Returns how many of each kind there
    were.

    Raises:
        RuntimeFault: runsc cannot list its containers. What cannot be removed is left for the next start.
    """
    ids = {container.id for container in keep}
    removed = {
        "containers": await _containers(runsc, ids),
        "cgroups": await asyncio.to_thread(_cgroups, cgroup_parent, ids),
        "slots": await asyncio.to_thread(
            slots.remove_leftovers, network, {container.slot.index for container in keep}
        ),
        "folders": await asyncio.to_thread(_folders, layout, ids),
    }
    if any(removed.values()):
        log.info("leftovers_removed", **removed)
    return removed


async def _containers(runsc: gvisor.Runsc, keep: set[str]) -> int:
    stale = [name for name in await runsc.statuses() if name not in keep]
    for name in stale:
        await runsc.delete(name)
    return len(stale)


def _cgroups(parent: str, keep: set[str]) -> int:
    stale = [name for name in cgroups.names(parent) if name not in keep]
    for name in stale:
        with contextlib.suppress(RuntimeFault):  # the next start tries again
            cgroups.remove(cgroups.of(parent, name))
    return len(stale)


def _folders(layout: Layout, keep: set[str]) -> int:
    count = 0
    for folder in (layout.bundles, layout.upper, layout.tmp, layout.containers):
        for entry in folder.iterdir():
            if any(name in entry.name for name in keep):
                continue
            if folder == layout.containers and entry.is_file():
                continue  # runsc's own lock files
            count += 1
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return count
