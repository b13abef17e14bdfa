"""Pause and resume. A paused sandbox is frozen in memory first and moves to disk later.

The callers run these functions as an operation on the sandbox.
"""

from __future__ import annotations

import asyncio
import time

from thawbox.errors import RuntimeFault
from thawbox.snapshots.start import wake
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from . import memory
from .context import SandboxContext
from .states import Action, applies


async def pause(context: SandboxContext, sandbox_id: str) -> SandboxRow:
    """Freeze a running sandbox.

    Raises:
        InvalidState: it is not running.
        SandboxNotFound: it was deleted.
        RuntimeFault: it did not work; the sandbox is still running.
    """
    row = await context.row(sandbox_id)
    if not applies(Action.PAUSE, row):
        return row
    # Shielded: if the command were killed halfway, runsc's record of the container would be wrong.
    await asyncio.shield(context.node.freeze(context.containers[sandbox_id]))
    try:
        row = await context.update(sandbox_id, status=SandboxStatus.PAUSED, paused_at=time.time())
    except BaseException:
        await asyncio.shield(context.node.unfreeze(context.containers[sandbox_id]))
        raise
    if context.settings.pause_memory_s == 0:
        row = await memory.to_disk(context, row)
    return row


async def resume(context: SandboxContext, sandbox_id: str) -> SandboxRow:
    """Resume a paused sandbox from memory or from disk.

    Raises:
        InvalidState: it is not paused, or its memory does not restore.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault: it did not work; the sandbox is still paused.
    """
    row = await context.row(sandbox_id)
    if not applies(Action.RESUME, row):
        return row
    if row.memory is None:
        await asyncio.shield(context.node.unfreeze(context.containers[sandbox_id]))
        try:
            return await context.update(sandbox_id, status=SandboxStatus.RUNNING, paused_at=None)
        except BaseException:
            await asyncio.shield(context.node.freeze(context.containers[sandbox_id]))
            raise
    return await bring_back(context, row)


async def bring_back(context: SandboxContext, row: SandboxRow) -> SandboxRow:
    """Thaw a sandbox from disk. When this returns it is running, and its memory on disk is removed.

    Raises:
        InvalidState, NoCapacity, RuntimeFault: as ``memory.from_disk``.
        SandboxNotFound: it was deleted meanwhile.
    """
    container = await memory.from_disk(context, row, wake)
    try:
        changed = await context.update(
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
        await asyncio.shield(context.node.destroy(container))
        raise
    context.track(container)
    await context.remove_memory(row.id, keep=None)
    return changed


async def move_to_disk(context: SandboxContext, sandbox_id: str) -> bool:
    """Move a sandbox that is frozen in memory to disk. Returns False if it is not frozen there, or it did not work.

    Raises:
        SandboxNotFound: it was deleted.
    """
    row = await context.row(sandbox_id)
    if row.status != SandboxStatus.PAUSED or row.memory is not None or sandbox_id not in context.containers:
        return False
    try:
        await memory.to_disk(context, row)
    except RuntimeFault as error:
        memory.log.error("freeze_to_disk_failed", sandbox_id=sandbox_id, error=error.message)
        return False
    return True
