"""At the start of a server: compare the rows with what this machine has."""

from __future__ import annotations

import asyncio
import shutil

from thawbox.node.container import Container
from thawbox.node.runtime import ContainerStatus
from thawbox.store import sandboxes as rows
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from .context import SandboxContext, log
from .memory import unusable


async def reconcile(context: SandboxContext) -> None:
    """Take over the containers that live, note in the row of each other sandbox what became of it, remove the rest.

    If a row names memory on disk, that memory is the sandbox; else its container is.
    """
    async with context.database.read() as connection:
        known = await rows.list_all(connection)
    statuses = await context.node.statuses()
    for row in known:
        status = statuses.get(row.id)
        if row.status == SandboxStatus.CREATING:
            await context.delete_row(row.id)  # its creation was never answered
        elif row.memory is not None:
            await _check_memory(context, row)
        elif row.status in (SandboxStatus.RUNNING, SandboxStatus.PAUSED):
            if row.slot is not None and status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED):
                await _adopt(context, row, frozen=status == ContainerStatus.PAUSED)
            else:
                reason = "lost while the server or the machine was down"
                await context.update(
                    row.id, status=SandboxStatus.ERROR, reason=reason, slot=None, paused_at=None
                )
    log.info("sandboxes_adopted", count=len(context.containers))
    await context.node.remove_leftovers(list(context.containers.values()))
    named = {row.id: row.memory for row in known}
    for folder in context.node.layout.paused.iterdir():
        if named.get(folder.name) is None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        else:
            await context.remove_memory(folder.name, keep=named[folder.name])


async def _check_memory(context: SandboxContext, row: SandboxRow) -> None:
    """Set or clear the error of a sandbox on disk: its memory may fit this server's runtime and not the last one's."""
    trouble = unusable(context, row)
    if trouble is not None and row.status != SandboxStatus.ERROR:
        log.warning("sandbox_not_restorable", sandbox_id=row.id, reason=trouble)
        await context.update(row.id, status=SandboxStatus.ERROR, reason=trouble)
    elif trouble is None and row.status == SandboxStatus.ERROR:
        status = SandboxStatus.STOPPED if row.paused_at is None else SandboxStatus.PAUSED
        await context.update(row.id, status=status, reason=None)


async def _adopt(context: SandboxContext, row: SandboxRow, *, frozen: bool) -> None:
    container = container_of(context, row)
    context.node.adopt(container)
    context.track(container)
    # The earlier server ended after it changed the container and before it changed the row; it had not answered yet.
    if row.status == SandboxStatus.RUNNING and frozen:
        await context.node.unfreeze(container)
    elif row.status == SandboxStatus.PAUSED and not frozen:
        await context.node.freeze(container)


def container_of(context: SandboxContext, row: SandboxRow) -> Container:
    """Return the container of a sandbox whose row names a slot."""
    assert row.slot is not None
    return context.node.container(
        row.id, slot=row.slot, secret=row.secret, disk_gb=row.disk_gb, internet=row.internet_access
    )
