"""Whether this machine has memory for another sandbox, and making some."""

from __future__ import annotations

import time
from pathlib import Path

from thawbox.errors import NoCapacity, SandboxNotFound
from thawbox.settings import Settings
from thawbox.store import sandboxes as rows

from . import pausing
from .context import Home

_MEMINFO = Path("/proc/meminfo")


def available_mb() -> int:
    """Memory that programs could get without swapping."""
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"{_MEMINFO} does not tell MemAvailable")


def is_short(settings: Settings) -> bool:
    """Whether less memory is free than the operator wants to keep."""
    return settings.memory_reserve_mb > 0 and available_mb() < settings.memory_reserve_mb


async def make(home: Home) -> None:
    """Return when there is room for another sandbox.

    For it go those that wait in pools, then frozen ones move to disk, the longest frozen first.

    Not to be called in a sandbox's turn, because it takes the turns of others.

    Raises:
        NoCapacity: there is none.
    """
    if not is_short(home.settings):
        return
    if await home.pools.give_up() and not is_short(home.settings):
        return
    async with home.database.read() as connection:
        frozen = await rows.frozen(connection, time.time())
    for row in frozen:
        await settle(home, row.id)
        if not is_short(home.settings):
            return
    raise NoCapacity(
        f"the node has less than {home.settings.memory_reserve_mb} MB of memory left: delete or stop sandboxes, "
        "or lower THAWBOX_MEMORY_RESERVE_MB",
        retry_after=5,
    )


async def settle(home: Home, sandbox_id: str) -> None:
    """Move one frozen sandbox to disk, if it is frozen still when its turn comes."""
    try:
        await home.operations.run(sandbox_id, lambda: pausing.move_to_disk(home, sandbox_id))
    except SandboxNotFound:
        return
