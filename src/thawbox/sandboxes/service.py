"""The sandboxes of this node, from creation to deletion.

A row is written before its container is made, and removed before the container is destroyed. So after a crash a
container without a row is a leftover, and a row without a living container is of a sandbox that was lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from thawbox import log as logs
from thawbox.errors import (
    InvalidState,
    SandboxEnded,
    SandboxNotFound,
    SandboxPaused,
    SandboxStopped,
    SandboxUnavailable,
    ThawboxError,
)
from thawbox.guest import Endpoint
from thawbox.node.runtime import Runtime
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.garbage import retire_versions
from thawbox.snapshots.pins import Pins
from thawbox.store import sandboxes as rows
from thawbox.store.database import Database
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow

from . import capacity, creation, forking, pausing, saving, stopping
from .context import SandboxContext, reason_of_death
from .contract import SandboxDefaults
from .events import Events
from .pools.keeper import Pools
from .recovery import reconcile
from .registration import CreateRequest
from .states import Action, applies, in_words

log = logs.get(__name__)

T = TypeVar("T")

SWEEP_INTERVAL_S = 1.0
MOVE_TO_DISK_S = 20.0
"""How long a stopping server may take to move frozen sandboxes to disk, in case the machine goes down as well."""


class SandboxService:
    """The sandboxes of this node. Used from one event loop."""

    def __init__(
        self,
        node: Runtime,
        database: Database,
        settings: Settings,
        pins: Pins,
        events: Events | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` (seconds) is what the pools measure demand with."""
        self.context = SandboxContext(
            node=node,
            database=database,
            settings=settings,
            pins=pins,
            events=events or Events(),
            pools=Pools(node, database, settings, is_low=lambda: capacity.is_low(settings), clock=clock),
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pools(self) -> Pools:
        """The pools of containers that wait for requests."""
        return self.context.pools

    async def start(self) -> None:
        """Take over what an earlier server left running, remove the rest, and start the periodic tasks."""
        await reconcile(self.context)
        await self.context.pools.start()
        self._tasks = [
            asyncio.create_task(self._repeat(self.delete_expired)),
            asyncio.create_task(self._repeat(self._move_idle_to_disk)),
        ]

    async def stop(self) -> int:
        """Stop the periodic tasks and move frozen sandboxes to disk.

        Returns how many sandboxes still have a container. The next server takes them over.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.context.pools.stop()
        try:
            async with asyncio.timeout(MOVE_TO_DISK_S):
                await self.move_to_disk(before=time.time())
        except TimeoutError:
            log.warning("not_all_frozen_on_disk")
        watchers = list(self.context.watchers.values())
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        return len(self.context.containers)

    async def create(
        self,
        organization_id: int,
        template: TemplateRow,
        *,
        env: Mapping[str, str],
        timeout_seconds: int | None,
        internet_access: bool,
        live: bool,
        public_ports: tuple[int, ...] | bool = (),
    ) -> SandboxRow:
        """Create a sandbox of the template's version; when this returns it is running and reachable.

        Raises:
            TemplateNotReady: the template has no version yet.
            Forbidden: the organisation has as many sandboxes as it may have.
            NoCapacity, RuntimeFault: it did not work; nothing is left.
        """
        request = CreateRequest(
            organization_id=organization_id,
            template=template,
            env=env,
            timeout_seconds=timeout_seconds,
            internet_access=internet_access,
            live=live,
            public_ports=public_ports,
        )
        with self.context.pools.without_refills():
            ready = await creation.claim_ready(self.context, request)
            return ready or await creation.create(self.context, request, undo=self._undo)

    async def pause(self, sandbox: SandboxRow) -> SandboxRow:
        """Freeze it; see ``contract``."""
        applies(Action.PAUSE, sandbox)
        return await self._operate(sandbox.id, lambda: pausing.pause(self.context, sandbox.id))

    async def resume(self, sandbox: SandboxRow) -> SandboxRow:
        """Resume it; see ``contract``."""
        if applies(Action.RESUME, sandbox) and sandbox.memory is not None:
            await capacity.ensure(self.context)
        return await self._operate(sandbox.id, lambda: pausing.resume(self.context, sandbox.id))

    async def stop_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """End its programs, keep its files; see ``contract``."""
        applies(Action.STOP, sandbox)
        return await self._operate(sandbox.id, lambda: stopping.stop(self.context, sandbox.id))

    async def start_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """Start it with its files; see ``contract``."""
        if applies(Action.START, sandbox):
            await capacity.ensure(self.context)
        return await self._operate(sandbox.id, lambda: stopping.start(self.context, sandbox.id))

    async def fork(
        self, sandbox: SandboxRow, count: int, *, env: Mapping[str, str], timeout_seconds: int | None
    ) -> list[SandboxRow]:
        """Make running copies; see ``contract``."""
        await capacity.ensure(self.context)
        return await forking.fork(
            self.context, sandbox.id, count, env=env, timeout_seconds=timeout_seconds, undo=self._undo
        )

    async def save(self, sandbox: SandboxRow, name: str, description: str) -> TemplateRow:
        """Make a template of the sandbox as it is now; see ``contract``."""
        await capacity.ensure(self.context)
        try:
            return await saving.save(self.context, sandbox.id, name, description)
        finally:
            await asyncio.shield(
                retire_versions(self.context.node.layout, self.context.database, self.context.pins)
            )

    async def delete(self, sandbox: SandboxRow) -> None:
        """End a sandbox in whatever state it is, and free everything that it holds.

        Raises:
            SandboxNotFound: another request deleted it meanwhile.
        """
        row = await self.context.delete_row(sandbox.id)
        if row is None:
            raise SandboxNotFound("Sandbox not found")
        await asyncio.shield(self._free(row))

    async def endpoint(self, sandbox: SandboxRow) -> Endpoint:
        """Where the sandbox's agent listens.

        Raises:
            SandboxPaused, SandboxStopped, SandboxEnded, SandboxUnavailable: it is not running; the message says why.
        """
        if sandbox.status == SandboxStatus.PAUSED:
            raise SandboxPaused(f"Sandbox {sandbox.id} is paused: resume it first", retry_after=1)
        if sandbox.status == SandboxStatus.STOPPED:
            raise SandboxStopped(f"Sandbox {sandbox.id} is stopped: start it first")
        if sandbox.status == SandboxStatus.ERROR:
            # If it has memory on disk, a server with the right runtime can restore it: do not advise to delete it.
            remedy = ". Delete it and create another" if sandbox.memory is None else ""
            raise SandboxEnded(f"Sandbox {sandbox.id} has ended: {sandbox.reason or 'it died'}{remedy}")
        if sandbox.status != SandboxStatus.RUNNING or sandbox.slot is None:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} is {in_words(sandbox.status)}")
        return self.context.node.endpoint(sandbox.slot, sandbox.secret)

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """Working folder and user of commands that name none, from the sandbox's version."""
        version = versions.load(self.context.node.layout, sandbox.snapshot_key)
        if version is None:
            return SandboxDefaults("/", None)
        return SandboxDefaults(version.workdir, version.user)

    async def _operate(self, sandbox_id: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await self.context.operations.run(sandbox_id, work)
        except ThawboxError as error:
            container = self.context.containers.get(sandbox_id)
            if container is None or not container.died.is_set():
                raise
            reason = reason_of_death(container)
            raise InvalidState(f"Sandbox {sandbox_id} has ended: {reason}.") from error

    async def _undo(self, sandbox_id: str) -> None:
        row = await self.context.delete_row(sandbox_id)
        if row is not None:
            await self._free(row)

    async def _free(self, row: SandboxRow) -> None:
        """Free everything that a sandbox holds whose row was removed."""
        await self.context.operations.interrupt(row.id)
        async with self.context.operations.lock(row.id):
            await self.context.destroy(row.id)
            await self.context.remove_memory(row.id, keep=None)
        await retire_versions(
            self.context.node.layout, self.context.database, self.context.pins, of=row.snapshot_key
        )

    async def _repeat(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await work()
            except Exception:
                log.exception("sweep_failed")

    async def delete_expired(self) -> None:
        """Delete every sandbox whose time is over."""
        async with self.context.database.read() as connection:
            due = await rows.due(connection, time.time())
        for row in due:
            gone = await self.context.delete_row(row.id)
            if gone is not None:
                log.info("sandbox_expired", sandbox_id=row.id)
                await self._free(gone)

    async def _move_idle_to_disk(self) -> None:
        low = capacity.is_low(self.context.settings)
        await self.move_to_disk(before=time.time() - (0 if low else self.context.settings.pause_memory_s))

    async def move_to_disk(self, *, before: float) -> None:
        """Move every sandbox to disk that was frozen before then (seconds since 1970) and is still in memory."""
        async with self.context.database.read() as connection:
            frozen = await rows.frozen(connection, before)
        for row in frozen:
            await capacity.move_to_disk(self.context, row.id)
