"""What a crash left on this machine, found by name and removed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Collection
from typing import TYPE_CHECKING

from thawbox import log as logs
from thawbox.errors import RuntimeFault

from . import cgroups, slots
from .container import Container

if TYPE_CHECKING:
    from .containers import Node

log = logs.get(__name__)


async def remove_leftovers(node: Node, *, keep: Collection[Container]) -> dict[str, int]:
    """Remove containers, cgroups, bundles, writable layers, slots and half-made things that are not in ``keep``.

    Call it before anything new is made. Returns how many of each kind there were.
    """
    ids = {container.id for container in keep}
    removed = {
        "containers": await _containers(node, ids),
        "cgroups": await asyncio.to_thread(_cgroups, node, ids),
        "slots": await asyncio.to_thread(
            slots.remove_leftovers, node.slots.network, {container.slot.index for container in keep}
        ),
        "folders": await asyncio.to_thread(_folders, node, ids),
    }
    if any(removed.values()):
        log.info("leftovers_removed", **removed)
    return removed


async def _containers(node: Node, keep: set[str]) -> int:
    stale = [name for name in await node.runsc.statuses() if name not in keep]
    for name in stale:
        await node.runsc.delete(name)
    return len(stale)


def _cgroups(node: Node, keep: set[str]) -> int:
    stale = [name for name in cgroups.names(node.cgroup_parent) if name not in keep]
    for name in stale:
        with contextlib.suppress(RuntimeFault):  # said again at the next start
            cgroups.remove(cgroups.of(node.cgroup_parent, name))
    return len(stale)


def _folders(node: Node, keep: set[str]) -> int:
    count = 0
    for folder in (node.layout.bundles, node.layout.upper, node.layout.tmp, node.layout.containers):
        for entry in folder.iterdir():
            if any(name in entry.name for name in keep):
                continue
            if folder == node.layout.containers and entry.is_file():
                continue  # runsc's own lock files
            count += 1
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return count
