"""Stop and start: programs end, files stay.

What is kept is the memory of a guest in which nothing but the agent runs. So everything in the file system
survives as it is (owners, links, also /tmp), and a start takes a thaw. All of this happens in the sandbox's turn.
"""

from __future__ import annotations

import asyncio

from thawbox.errors import BuildError, GuestFault, InvalidState
from thawbox.guest import GuestError
from thawbox.snapshots.start import start_program
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from . import memory
from .context import Home, log
from .pausing import bring_back
from .states import Action, applies


async def stop(home: Home, sandbox_id: str) -> SandboxRow:
    """End the programs of a running or paused sandbox and keep its files on disk.

    Raises:
        InvalidState: it is in error, or its memory does not restore.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault, GuestFault: it did not work; it runs then, or is paused still.
    """
    row = await home.row(sandbox_id)
    if not applies(Action.STOP, row):
        return row
    if row.status == SandboxStatus.PAUSED and row.memory is None:
        await asyncio.shield(home.node.unfreeze(home.held[sandbox_id]))
        row = await home.change(sandbox_id, status=SandboxStatus.RUNNING, paused_at=None)
    elif row.status == SandboxStatus.PAUSED:
        row = await bring_back(home, row)
    try:
        await home.node.end_programs(home.held[sandbox_id])
    except GuestError as error:
        raise GuestFault(f"the agent in {sandbox_id} does not end the programs: {error}") from error
    return await memory.to_disk(home, row, status=SandboxStatus.STOPPED, paused_at=None)


async def start(home: Home, sandbox_id: str) -> SandboxRow:
    """Bring a stopped sandbox back with its files, and run its template's start command.

    Raises:
        InvalidState: it is not stopped, it does not restore, or the start command fails.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault: it did not work; it is stopped still.
    """
    row = await home.row(sandbox_id)
    if not applies(Action.START, row):
        return row
    row = await bring_back(home, row)
    try:
        await start_program(home.held[sandbox_id].endpoint, home.version(row))
    except (BuildError, GuestError, GuestFault) as error:
        said = str(error)
        log.info("start_command_failed", sandbox_id=sandbox_id, error=said)
        await stop(home, sandbox_id)
        raise InvalidState(f"Sandbox {sandbox_id} does not start, and is stopped again: {said}") from error
    return row
