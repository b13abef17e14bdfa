"""What all operations on this node's sandboxes share: the parts, the containers that live, the rows."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thawbox import log as logs
from thawbox.errors import InternalFault, SandboxNotFound
from thawbox.node.container import Container
from thawbox.node.runtime import Runtime
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.pins import Pins
from thawbox.store import sandboxes as rows
from thawbox.store.database import Database
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from .events import Events
from .operations import Operations
from .pools.keeper import Pools

log = logs.get(__name__)


def _two_per_core() -> asyncio.Semaphore:
    return asyncio.Semaphore(2 * len(os.sched_getaffinity(0)))


@dataclass(frozen=True, kw_only=True)
class Home:
    """This node's sandboxes. ``held`` and the rows agree whenever nobody has a sandbox's turn."""

    node: Runtime
    database: Database
    settings: Settings
    pins: Pins
    events: Events
    pools: Pools
    operations: Operations = field(default_factory=Operations)
    starting: asyncio.Semaphore = field(default_factory=_two_per_core)
    held: dict[str, Container] = field(default_factory=dict)
    """Containers of running and frozen sandboxes. Who takes one out is the one to destroy it."""
    watchers: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def row(self, sandbox_id: str) -> SandboxRow:
        """The sandbox as it is now.

        Raises:
            SandboxNotFound: it was deleted.
        """
        async with self.database.read() as connection:
            found = await rows.get(connection, sandbox_id)
        if found is None:
            raise SandboxNotFound("Sandbox not found")
        return found

    async def change(self, sandbox_id: str, **fields: Any) -> SandboxRow:
        """Set columns, tell the listeners, and return the row.

        Raises:
            SandboxNotFound: it was deleted meanwhile.
        """
        async with self.database.write() as connection:
            await rows.update(connection, sandbox_id, **fields)
            found = await rows.get(connection, sandbox_id)
        if found is None:
            raise SandboxNotFound("Sandbox not found")
        self.events.publish("updated", found)
        return found

    async def forget(self, sandbox_id: str) -> SandboxRow | None:
        """Remove the row, whereupon nobody can ask for the sandbox any more; None if it was gone."""
        async with self.database.write() as connection:
            row = await rows.get(connection, sandbox_id)
            if row is None or not await rows.delete(connection, sandbox_id):
                return None
        self.events.publish("deleted", row)
        return row

    def hold(self, container: Container) -> None:
        """The container is a sandbox's from now on; its death will be noticed."""
        self.held[container.id] = container
        self.watchers[container.id] = asyncio.create_task(self._watch_until_death(container))

    async def destroy(self, sandbox_id: str) -> None:
        """Destroy the container that the sandbox has, if it has one."""
        watcher = self.watchers.pop(sandbox_id, None)
        container = self.held.pop(sandbox_id, None)
        if watcher is not None and watcher is not asyncio.current_task():
            watcher.cancel()
        if container is not None:
            await asyncio.shield(self.node.destroy(container))

    def folder(self, sandbox_id: str) -> Path:
        """Where its memory lies while it is on disk."""
        return self.node.layout.paused / sandbox_id

    async def keep_only(self, sandbox_id: str, memory: str | None) -> None:
        """Remove its memory on disk, except for the folder ``memory``."""
        folder = self.folder(sandbox_id)
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name != memory:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
        if memory is None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def version(self, row: SandboxRow) -> Version:
        """What it was made from; the row keeps these files from being removed.

        Raises:
            InternalFault: they are gone.
        """
        version = versions.load(self.node.layout, row.snapshot_key)
        if version is None:
            raise InternalFault(f"the files of template '{row.template_name}' are gone: build it again")
        return version

    async def _watch_until_death(self, container: Container) -> None:
        """Notice that a sandbox died by itself, say why in its record, and free what it held."""
        await container.died.wait()
        async with self.operations.lock(container.id):
            if self.held.get(container.id) is not container:
                return
            reason = reason_of_death(container)
            log.warning("sandbox_died", sandbox_id=container.id, reason=reason)
            try:
                await self.change(
                    container.id, status=SandboxStatus.ERROR, reason=reason, slot=None, paused_at=None
                )
            except SandboxNotFound:
                pass  # whoever deletes it waits for our turn to end
            finally:
                await self.destroy(container.id)


def reason_of_death(container: Container) -> str:
    """Why a container that is dead died, for its owner."""
    if container.out_of_memory:
        return "out of memory: it needed more than its template's memory"
    return "its runtime process ended"
