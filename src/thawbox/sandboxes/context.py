"""What all operations on this node's sandboxes share: services, the containers that live, and access to the rows."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

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
from thawbox.store.sandboxes import SandboxChanges, SandboxRow

from .events import Events
from .operations import Operations
from .pools.keeper import Pools

log = logs.get(__name__)


def _two_per_core() -> asyncio.Semaphore:
    return asyncio.Semaphore(2 * len(os.sched_getaffinity(0)))


@dataclass(frozen=True, kw_only=True)
class SandboxContext:
    """This node's sandboxes. ``containers`` and the rows agree while no operation on the sandbox runs."""

    node: Runtime
    database: Database
    settings: Settings
    pins: Pins
    events: Events
    pools: Pools
    operations: Operations = field(default_factory=Operations)
    starting: asyncio.Semaphore = field(default_factory=_two_per_core)
    """Held while a container is brought up, so that not too many start at once."""
    containers: dict[str, Container] = field(default_factory=dict)
    """Sandbox id -> container, of running and frozen sandboxes. Whoever removes an entry must destroy it."""
    watchers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Sandbox id -> the task that notices its container's death."""

    async def row(self, sandbox_id: str) -> SandboxRow:
        """Return the sandbox as it is now.

        Raises:
            SandboxNotFound: it was deleted.
        """
        async with self.database.read() as connection:
            found = await rows.get(connection, sandbox_id)
        if found is None:
            raise SandboxNotFound("Sandbox not found")
        return found

    async def update(self, sandbox_id: str, **changes: Unpack[SandboxChanges]) -> SandboxRow:
        """Set columns, publish the event ``updated``, and return the new row.

        Raises:
            SandboxNotFound: it was deleted meanwhile.
        """
        async with self.database.write() as connection:
            await rows.update(connection, sandbox_id, **changes)
            found = await rows.get(connection, sandbox_id)
        if found is None:
            raise SandboxNotFound("Sandbox not found")
        self.events.publish("updated", found)
        return found

    async def delete_row(self, sandbox_id: str) -> SandboxRow | None:
        """Remove the row and publish the event ``deleted``. From now on no request finds the sandbox.

        Returns the removed row, or None if there was none.
        """
        async with self.database.write() as connection:
            row = await rows.get(connection, sandbox_id)
            if row is None or not await rows.delete(connection, sandbox_id):
                return None
        self.events.publish("deleted", row)
        return row

    def track(self, container: Container) -> None:
        """Keep the container as its sandbox's, and watch for its death."""
        self.containers[container.id] = container
        self.watchers[container.id] = asyncio.create_task(self._watch_until_death(container))

    async def destroy(self, sandbox_id: str) -> None:
        """Destroy the sandbox's container, if it has one."""
        watcher = self.watchers.pop(sandbox_id, None)
        container = self.containers.pop(sandbox_id, None)
        if watcher is not None and watcher is not asyncio.current_task():
            watcher.cancel()
        if container is not None:
            await asyncio.shield(self.node.destroy(container))

    def memory_folder(self, sandbox_id: str) -> Path:
        """The folder below which the sandbox's memory is while it is on disk."""
        return self.node.layout.paused / sandbox_id

    async def remove_memory(self, sandbox_id: str, *, keep: str | None) -> None:
        """Remove the sandbox's memory on disk, except for the folder named ``keep``; None: all of it."""
        folder = self.memory_folder(sandbox_id)
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name != keep:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
        if keep is None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def version(self, row: SandboxRow) -> Version:
        """Return the version that the sandbox was made from. As long as the row exists, its files are kept.

        Raises:
            InternalFault: the files are gone.
        """
        version = versions.load(self.node.layout, row.snapshot_key)
        if version is None:
            raise InternalFault(f"the files of template '{row.template_name}' are gone: build it again")
        return version

    async def _watch_until_death(self, container: Container) -> None:
        """Wait until the container dies by itself, note the reason in the row, and free what it held."""
        await container.died.wait()
        async with self.operations.lock(container.id):
            if self.containers.get(container.id) is not container:
                return
            reason = reason_of_death(container)
            log.warning("sandbox_died", sandbox_id=container.id, reason=reason)
            try:
                await self.update(
                    container.id, status=SandboxStatus.ERROR, reason=reason, slot=None, paused_at=None
                )
            except SandboxNotFound:
                pass  # it is being deleted, and the deletion waits for this lock
            finally:
                await self.destroy(container.id)


def reason_of_death(container: Container) -> str:
    """Why a dead container died, as a phrase for the sandbox's owner."""
    if container.out_of_memory:
        return "out of memory: it needed more than its template's memory"
    return "its runtime process ended"
