"""Whether this machine has memory for another sandbox, and how to free some."""

from __future__ import annotations

import time
from pathlib import Path

from thawbox.errors import NoCapacity, SandboxNotFound
from thawbox.settings import Settings
from thawbox.store import sandboxes as rows

from . import pausing
from .context import SandboxContext

_MEMINFO = Path("/proc/meminfo")


def available_mb() -> int:
    """Memory in MB that programs could get without swapping (``MemAvailable`` in /proc/meminfo)."""
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"{_MEMINFO} has no line MemAvailable")


def is_low(settings: Settings) -> bool:
    """Whether less memory is available than the operator wants to keep free (``memory_reserve_mb``)."""
    return settings.memory_reserve_mb > 0 and available_mb() < settings.memory_reserve_mb


async def ensure(context: SandboxContext) -> None:
    """Return when there is memory for another sandbox.

    If memory is low, discard what waits in the pools. If it still is, move frozen sandboxes to disk, the longest
    frozen first.

    Do not call it within an operation on a sandbox: it waits for operations on others.

    Raises:
        NoCapacity: memory is still low.
    """
    if not is_low(context.settings):
        return
    if await context.pools.discard_all() and not is_low(context.settings):
        return
    async with context.database.read() as connection:
        frozen = await rows.frozen(connection, time.time())
    for row in frozen:
        await move_to_disk(context, row.id)
        if not is_low(context.settings):
            return
    raise NoCapacity(
        f"the node has less than {context.settings.memory_reserve_mb} MB of memory left: delete or stop sandboxes, "
        "or lower THAWBOX_MEMORY_RESERVE_MB",
        retry_after=5,
    )


async def move_to_disk(context: SandboxContext, sandbox_id: str) -> None:
    """Move one frozen sandbox to disk, unless it is no longer frozen when its operation begins."""
    try:
        await context.operations.run(sandbox_id, lambda: pausing.move_to_disk(context, sandbox_id))
    except SandboxNotFound:
        return
