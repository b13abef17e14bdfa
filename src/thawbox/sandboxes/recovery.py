"""After a start: what the database says against what this machine has."""

from __future__ import annotations

import asyncio
import shutil

from thawbox.node.container import Container
from thawbox.node.runtime import ContainerStatus
from thawbox.store import sandboxes as rows
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from .context import Home, log
from .memory import unusable


async def reconcile(home: Home) -> None:
    """Take over containers that live, say in its record what became of each sandbox that does not, remove the rest.

    A container is the sandbox unless its row names memory on disk.
    """
    async with home.database.read() as connection:
        known = await rows.list_all(connection)
    statuses = await home.node.statuses()
    for row in known:
        status = statuses.get(row.id)
        if row.status == SandboxStatus.CREATING:
            await home.forget(row.id)  # was never answered
        elif row.memory is not None:
            await _judge(home, row)
        elif row.status in (SandboxStatus.RUNNING, SandboxStatus.PAUSED):
            if row.slot is not None and status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED):
                await _adopt(home, row, frozen=status == ContainerStatus.PAUSED)
            else:
                reason = "lost while the server or the machine was down"
                await home.change(
                    row.id, status=SandboxStatus.ERROR, reason=reason, slot=None, paused_at=None
                )
    log.info("sandboxes_adopted", count=len(home.held))
    await home.node.remove_leftovers(list(home.held.values()))
    named = {row.id: row.memory for row in known}
    for folder in home.node.layout.paused.iterdir():
        if named.get(folder.name) is None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        else:
            await home.keep_only(folder.name, named[folder.name])


async def _judge(home: Home, row: SandboxRow) -> None:
    """Whether what is on disk can be thawed by this runtime; that may change with each start."""
    trouble = unusable(home, row)
    if trouble is not None and row.status != SandboxStatus.ERROR:
        log.warning("sandbox_not_restorable", sandbox_id=row.id, reason=trouble)
        await home.change(row.id, status=SandboxStatus.ERROR, reason=trouble)
    elif trouble is None and row.status == SandboxStatus.ERROR:
        status = SandboxStatus.STOPPED if row.paused_at is None else SandboxStatus.PAUSED
        await home.change(row.id, status=status, reason=None)


async def _adopt(home: Home, row: SandboxRow, *, frozen: bool) -> None:
    container = container_of(home, row)
    home.node.adopt(container)
    home.hold(container)
    # The server was stopped between the runtime's change and the row's, and had not answered yet.
    if row.status == SandboxStatus.RUNNING and frozen:
        await home.node.unfreeze(container)
    elif row.status == SandboxStatus.PAUSED and not frozen:
        await home.node.freeze(container)


def container_of(home: Home, row: SandboxRow) -> Container:
    """The container of a sandbox that has one."""
    assert row.slot is not None
    return home.node.container(
        row.id, slot=row.slot, secret=row.secret, disk_gb=row.disk_gb, internet=row.internet_access
    )
