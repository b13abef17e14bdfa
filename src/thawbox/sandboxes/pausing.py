"""Pause and resume: frozen in memory first, on disk later.

All of this happens in the sandbox's turn.
"""

from __future__ import annotations

import asyncio
import time

from thawbox.errors import RuntimeFault
from thawbox.snapshots.start import wake
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from . import memory
from .context import Home
from .states import Action, applies


async def pause(home: Home, sandbox_id: str) -> SandboxRow:
    """Freeze a running sandbox.

    Raises:
        InvalidState: it does not run.
        SandboxNotFound: it was deleted.
        RuntimeFault: it did not work; it runs on.
    """
    row = await home.row(sandbox_id)
    if not applies(Action.PAUSE, row):
        return row
    # Shielded, because runsc's record would be wrong if its command were killed halfway.
    await asyncio.shield(home.node.freeze(home.held[sandbox_id]))
    try:
        row = await home.change(sandbox_id, status=SandboxStatus.PAUSED, paused_at=time.time())
    except BaseException:
        await asyncio.shield(home.node.unfreeze(home.held[sandbox_id]))
        raise
    if home.settings.pause_memory_s == 0:
        row = await memory.to_disk(home, row)
    return row


async def resume(home: Home, sandbox_id: str) -> SandboxRow:
    """Let a paused sandbox go on, from memory or from disk.

    Raises:
        InvalidState: it is not paused, or its memory does not restore.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault: it did not work; it is paused still.
    """
    row = await home.row(sandbox_id)
    if not applies(Action.RESUME, row):
        return row
    if row.memory is None:
        await asyncio.shield(home.node.unfreeze(home.held[sandbox_id]))
        try:
            return await home.change(sandbox_id, status=SandboxStatus.RUNNING, paused_at=None)
        except BaseException:
            await asyncio.shield(home.node.freeze(home.held[sandbox_id]))
            raise
    return await bring_back(home, row)


async def bring_back(home: Home, row: SandboxRow) -> SandboxRow:
    """Thaw a sandbox from disk; it runs when this returns, and nothing of it is on disk any more."""
    container = await memory.from_disk(home, row, wake)
    try:
        changed = await home.change(
            row.id,
            status=SandboxStatus.RUNNING,
            slot=container.slot.index,
            secret=container.secret,
            memory=None,
            memory_runsc=None,
            paused_at=None,
            reason=None,
        )
    except BaseException:
        await asyncio.shield(home.node.destroy(container))
        raise
    home.hold(container)
    await home.keep_only(row.id, None)
    return changed


async def move_to_disk(home: Home, sandbox_id: str) -> bool:
    """Free the memory of a frozen sandbox; False if it is not frozen in memory any more, or it does not work."""
    row = await home.row(sandbox_id)
    if row.status != SandboxStatus.PAUSED or row.memory is not None or sandbox_id not in home.held:
        return False
    try:
        await memory.to_disk(home, row)
    except RuntimeFault as error:
        memory.log.error("freeze_to_disk_failed", sandbox_id=sandbox_id, error=error.message)
        return False
    return True
