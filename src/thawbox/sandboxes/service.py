"""The sandboxes of this node, from creation to deletion.

The row is written before anything is made, and goes before anything is freed: so after a crash every container
without a row is a leftover, and every row without a living container tells what happened.
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
from .context import Home, reason_of_death
from .contract import SandboxDefaults
from .events import Events
from .pools.keeper import Pools
from .recovery import reconcile
from .states import Action, applies, in_words

log = logs.get(__name__)

T = TypeVar("T")

SWEEP_INTERVAL_S = 1.0
SETTLE_S = 20.0
"""How long a stopping server moves frozen sandboxes to disk, in case the machine goes down as well."""


class SandboxService:
    """The sandboxes of this node. Used from one event loop."""

    def __init__(
        self, node: Runtime, database: Database, settings: Settings, pins: Pins, events: Events | None = None
    ) -> None:
        self._home = Home(
            node=node,
            database=database,
            settings=settings,
            pins=pins,
            events=events or Events(),
            pools=Pools(node, database, settings, is_short=lambda: capacity.is_short(settings)),
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pools(self) -> Pools:
        """What waits ready."""
        return self._home.pools

    async def start(self) -> None:
        """Take over what an earlier server left running, remove the rest, begin to watch and to sweep."""
        await reconcile(self._home)
        await self._home.pools.start()
        self._tasks = [
            asyncio.create_task(self._for_ever(self._delete_expired)),
            asyncio.create_task(self._for_ever(self._settle_frozen)),
        ]

    async def stop(self) -> int:
        """Stop watching; returns how many sandboxes stay in memory. The next server takes them over."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._home.pools.stop()
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._settle(before=time.time())
        except TimeoutError:
            log.warning("not_all_frozen_on_disk")
        watchers = list(self._home.watchers.values())
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        return len(self._home.held)

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
        """Thaw a sandbox from the template's version; it runs and is reachable when this returns.

        Raises:
            TemplateNotReady: the template has no version yet.
            Forbidden: the organisation has as many sandboxes as it may.
            NoCapacity, RuntimeFault: it did not work; nothing is left.
        """
        wish = creation.Wish(
            organization_id=organization_id,
            template=template,
            env=env,
            timeout_seconds=timeout_seconds,
            internet_access=internet_access,
            live=live,
            public_ports=public_ports,
        )
        with self._home.pools.somebody_waits():
            ready = await creation.hand_over(self._home, wish)
            return ready or await creation.create(self._home, wish, undo=self._undo)

    async def pause(self, sandbox: SandboxRow) -> SandboxRow:
        """Freeze it; see ``contract``."""
        applies(Action.PAUSE, sandbox)
        return await self._operate(sandbox.id, lambda: pausing.pause(self._home, sandbox.id))

    async def resume(self, sandbox: SandboxRow) -> SandboxRow:
        """Let it go on; see ``contract``."""
        if applies(Action.RESUME, sandbox) and sandbox.memory is not None:
            await capacity.make(self._home)
        return await self._operate(sandbox.id, lambda: pausing.resume(self._home, sandbox.id))

    async def stop_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """End its programs, keep its files; see ``contract``."""
        applies(Action.STOP, sandbox)
        return await self._operate(sandbox.id, lambda: stopping.stop(self._home, sandbox.id))

    async def start_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """Bring it back with its files; see ``contract``."""
        if applies(Action.START, sandbox):
            await capacity.make(self._home)
        return await self._operate(sandbox.id, lambda: stopping.start(self._home, sandbox.id))

    async def fork(
        self, sandbox: SandboxRow, count: int, *, env: Mapping[str, str], timeout_seconds: int | None
    ) -> list[SandboxRow]:
        """Running copies; see ``contract``."""
        await capacity.make(self._home)
        return await forking.fork(
            self._home, sandbox.id, count, env=env, timeout_seconds=timeout_seconds, undo=self._undo
        )

    async def save(self, sandbox: SandboxRow, name: str, description: str) -> TemplateRow:
        """A template that is as the sandbox is now; see ``contract``."""
        await capacity.make(self._home)
        try:
            return await saving.save(self._home, sandbox.id, name, description)
        finally:
            await asyncio.shield(
                retire_versions(self._home.node.layout, self._home.database, self._home.pins)
            )

    async def delete(self, sandbox: SandboxRow) -> None:
        """End a sandbox in whatever state it is, and free all that it holds.

        Raises:
            SandboxNotFound: somebody else deleted it meanwhile.
        """
        row = await self._home.forget(sandbox.id)
        if row is None:
            raise SandboxNotFound("Sandbox not found")
        await asyncio.shield(self._free(row))

    async def endpoint(self, sandbox: SandboxRow) -> Endpoint:
        """Where the sandbox's agent listens.

        Raises:
            SandboxPaused, SandboxStopped, SandboxEnded, SandboxUnavailable: it is not running; says why.
        """
        if sandbox.status == SandboxStatus.PAUSED:
            raise SandboxPaused(f"Sandbox {sandbox.id} is paused: resume it first", retry_after=1)
        if sandbox.status == SandboxStatus.STOPPED:
            raise SandboxStopped(f"Sandbox {sandbox.id} is stopped: start it first")
        if sandbox.status == SandboxStatus.ERROR:
            # With memory on disk a server with the right runtime brings it back: nothing to throw away.
            remedy = ". Delete it and create another" if sandbox.memory is None else ""
            raise SandboxEnded(f"Sandbox {sandbox.id} has ended: {sandbox.reason or 'it died'}{remedy}")
        if sandbox.status != SandboxStatus.RUNNING or sandbox.slot is None:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} is {in_words(sandbox.status)}")
        return self._home.node.endpoint(sandbox.slot, sandbox.secret)

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """What its template says about where and as whom commands run."""
        version = versions.load(self._home.node.layout, sandbox.snapshot_key)
        if version is None:
            return SandboxDefaults("/", None)
        return SandboxDefaults(version.workdir, version.user)

    async def _operate(self, sandbox_id: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await self._home.operations.run(sandbox_id, work)
        except ThawboxError as error:
            container = self._home.held.get(sandbox_id)
            if container is None or not container.died.is_set():
                raise
            reason = reason_of_death(container)
            raise InvalidState(f"Sandbox {sandbox_id} has ended: {reason}.") from error

    async def _undo(self, sandbox_id: str) -> None:
        row = await self._home.forget(sandbox_id)
        if row is not None:
            await self._free(row)

    async def _free(self, row: SandboxRow) -> None:
        """Take away all that a sandbox whose row is gone holds."""
        await self._home.operations.interrupt(row.id)
        async with self._home.operations.lock(row.id):
            await self._home.destroy(row.id)
            await self._home.keep_only(row.id, None)
        await retire_versions(
            self._home.node.layout, self._home.database, self._home.pins, of=row.snapshot_key
        )

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await work()
            except Exception:
                log.exception("sweep_failed")

    async def _delete_expired(self) -> None:
        async with self._home.database.read() as connection:
            due = await rows.due(connection, time.time())
        for row in due:
            gone = await self._home.forget(row.id)
            if gone is not None:
                log.info("sandbox_expired", sandbox_id=row.id)
                await self._free(gone)

    async def _settle_frozen(self) -> None:
        short = capacity.is_short(self._home.settings)
        await self._settle(before=time.time() - (0 if short else self._home.settings.pause_memory_s))

    async def _settle(self, *, before: float) -> None:
        async with self._home.database.read() as connection:
            frozen = await rows.frozen(connection, before)
        for row in frozen:
            await capacity.settle(self._home, row.id)
