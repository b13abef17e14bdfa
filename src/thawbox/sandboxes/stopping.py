"""Stop and start: a stop ends the programs and keeps the files.

A stop saves the memory of a guest in which only the agent runs. So everything in the file system survives as it is
(owners, links, /tmp as well), and a start is a thaw. The callers run these functions as an operation on the sandbox.
"""

from __future__ import annotations

import asyncio

from thawbox.errors import BuildError, GuestFault, InvalidState
from thawbox.guest import GuestError
from thawbox.snapshots.start import start_program
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from . import memory
from .context import SandboxContext, log
from .pausing import bring_back
from .states import Action, applies


async def stop(context: SandboxContext, sandbox_id: str) -> SandboxRow:
    """End the programs of a running or paused sandbox and keep its files on disk.

    Raises:
        InvalidState: it is in error, or its memory does not restore.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault, GuestFault: it did not work; it is running, or still paused.
    """
    row = await context.row(sandbox_id)
    if not applies(Action.STOP, row):
        return row
    if row.status == SandboxStatus.PAUSED and row.memory is None:
        await asyncio.shield(context.node.unfreeze(context.containers[sandbox_id]))
        row = await context.update(sandbox_id, status=SandboxStatus.RUNNING, paused_at=None)
    elif row.status == SandboxStatus.PAUSED:
        row = await bring_back(context, row)
    try:
        await context.node.end_programs(context.containers[sandbox_id])
    except GuestError as error:
        raise GuestFault(f"the agent in {sandbox_id} could not end the programs: {error}") from error
    return await memory.to_disk(context, row, stopped=True)


async def start(context: SandboxContext, sandbox_id: str) -> SandboxRow:
    """Start a stopped sandbox with its files, and run its template's start command.

    Raises:
        InvalidState: it is not stopped, it does not restore, or the start command fails.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault: it did not work; the sandbox is still stopped.
    """
    row = await context.row(sandbox_id)
    if not applies(Action.START, row):
        return row
    row = await bring_back(context, row)
    try:
        await start_program(context.containers[sandbox_id].endpoint, context.version(row))
    except (BuildError, GuestError, GuestFault) as error:
        reason = str(error)
        log.info("start_command_failed", sandbox_id=sandbox_id, error=reason)
        await stop(context, sandbox_id)
        raise InvalidState(f"Sandbox {sandbox_id} did not start, and is stopped again: {reason}") from error
    return row
