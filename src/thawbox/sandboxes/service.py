"""Sandboxes from creation to deletion, on this node.

The row is written before anything is made, and goes before anything is freed: so after a crash every container
without a row is a leftover, and every row without a living container tells what happened.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Mapping

from thawbox import ids, metrics
from thawbox import log as logs
from thawbox.errors import (
    BuildError,
    Forbidden,
    InternalFault,
    RuntimeFault,
    SandboxNotFound,
    SandboxUnavailable,
    TemplateNotReady,
    ThawboxError,
)
from thawbox.guest.client import Endpoint, GuestError
from thawbox.node import cgroups
from thawbox.node.containers import Container, Greeting, Node
from thawbox.node.leftovers import remove_leftovers
from thawbox.settings import Settings
from thawbox.store import sandboxes as rows
from thawbox.store import templates
from thawbox.store.database import Database
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.templates import version as versions
from thawbox.templates.version import Version

from .contract import SandboxDefaults
from .garbage import Pins, retire_versions
from .start import introduce, root_of, start_program

log = logs.get(__name__)

SWEEP_INTERVAL_S = 1.0


class SandboxService:
    """The sandboxes of this node. Used from one event loop."""

    def __init__(self, node: Node, database: Database, settings: Settings, pins: Pins) -> None:
        self._node = node
        self._database = database
        self._settings = settings
        self._pins = pins
        self._starting = asyncio.Semaphore(2 * _cores())
        self._held: dict[str, Container] = {}
        """Containers of running sandboxes. Who takes one out is the one to destroy it."""
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what an earlier server left running, remove the rest, begin to watch and to sweep."""
        await self._reconcile()
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    async def stop(self) -> int:
        """Stop watching; returns how many sandboxes stay. The next server takes them over."""
        tasks = [*self._watchers.values()]
        if self._sweeper is not None:
            tasks.append(self._sweeper)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(self._held)

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
        async with self._database.write() as connection:
            limit = self._settings.max_sandboxes
            if limit and (current := await rows.count(connection, organization_id)) >= limit:
                raise Forbidden(
                    f"The limit of {limit} sandboxes is reached: delete one, or raise THAWBOX_MAX_SANDBOXES",
                    details={"limit": limit, "current": current, "available": 0},
                )
            # In the same transaction as the insert, which from then on keeps the version's files from being
            # retired by an update.
            version = self._version_of(await templates.get(connection, template.id), template)
            now = time.time()
            row = SandboxRow(
                id=ids.sandbox_id(),
                organization_id=organization_id,
                template_id=template.id,
                template_name=template.name,
                snapshot_key=version.key,
                status="creating",
                cpu=version.cpu,
                memory_mb=version.memory_mb,
                disk_gb=version.disk_gb,
                internet_access=internet_access,
                live=live,
                public_ports=public_ports,
                secret="",
                timeout_seconds=timeout_seconds,
                expires_at=None if timeout_seconds is None else now + timeout_seconds,
                created_at=now,
            )
            await rows.insert(connection, row)
        try:
            return await self._bring_up(row, version, env)
        except BaseException:
            await asyncio.shield(self._undo(row.id))
            raise

    async def delete(self, sandbox: SandboxRow) -> None:
        """End a sandbox in whatever state it is, and free all that it holds.

        Raises:
            SandboxNotFound: somebody else deleted it meanwhile.
        """
        if not await self._forget(sandbox.id):
            raise SandboxNotFound("Sandbox not found")
        await self._free(sandbox.id)

    async def endpoint(self, sandbox: SandboxRow) -> Endpoint:
        """Where the sandbox's agent listens.

        Raises:
            SandboxUnavailable: it is not running; says why.
        """
        if sandbox.status != "running" or sandbox.slot is None:
            why = f": {sandbox.reason}" if sandbox.reason else ""
            raise SandboxUnavailable(f"Sandbox {sandbox.id} is {sandbox.status}{why}")
        return self._container(sandbox).endpoint

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """What its template says about where and as whom commands run."""
        version = versions.load(self._node.layout, sandbox.snapshot_key)
        if version is None:
            return SandboxDefaults("/", None)
        return SandboxDefaults(version.workdir, version.user)

    def _version_of(self, now: TemplateRow | None, asked: TemplateRow) -> Version:
        if now is None:
            raise TemplateNotReady(f"Template '{asked.name}' was deleted meanwhile")
        if now.snapshot_key is None:
            raise TemplateNotReady(f"Template '{now.name}' is {now.status}: wait until its status is active")
        version = versions.load(self._node.layout, now.snapshot_key)
        if version is None:
            raise InternalFault(f"the files of template '{now.name}' are gone: build it again with update")
        return version

    async def _bring_up(self, row: SandboxRow, version: Version, env: Mapping[str, str]) -> SandboxRow:
        began = time.perf_counter()
        async with self._starting:
            # In the first message, not after a ping: each round trip costs milliseconds right after a thaw.
            greet = functools.partial(introduce, hostname=row.id, template_env=version.env, env=env)
            container, path = await self._container_for(row, version, greet)
            try:
                if path == "cold":
                    await start_program(container.endpoint, version)
                timings = {**container.timings, "total": round((time.perf_counter() - began) * 1000, 2)}
                async with self._database.write() as connection:
                    alive = await rows.update(
                        connection,
                        row.id,
                        status="running",
                        slot=container.slot.index,
                        secret=container.secret,
                        boot_path=path,
                        timings=timings,
                    )
                    running = await rows.get(connection, row.id)
                if not alive or running is None:
                    raise SandboxNotFound("the sandbox was deleted while it started")
            except (GuestError, BuildError) as error:
                await asyncio.shield(self._node.destroy(container))
                raise RuntimeFault(f"the sandbox did not start: {error}") from error
            except BaseException:
                await asyncio.shield(self._node.destroy(container))
                raise
        self._hold(container)
        metrics.SANDBOX_CREATE_SECONDS.labels(path=path).observe(time.perf_counter() - began)
        return running

    async def _container_for(
        self, row: SandboxRow, version: Version, greet: Greeting
    ) -> tuple[Container, str]:
        memory = versions.memory_path(self._node.layout, version)
        fits = version.memory is not None and version.memory.runsc_sha256 == self._node.runsc.digest
        if memory is not None and fits:
            try:
                return await self._thawed(row, version, greet), "created"
            except ThawboxError as error:
                metrics.RESTORE_FAILURES.inc()
                log.error("restore_failed", sandbox_id=row.id, snapshot=version.key, error=error.message)
        container = await self._created(row, version)
        try:
            await self._node.boot(container, greet)
        except BaseException:
            await asyncio.shield(self._node.destroy(container))
            raise
        return container, "cold"

    async def _thawed(self, row: SandboxRow, version: Version, greet: Greeting) -> Container:
        memory = versions.memory_path(self._node.layout, version)
        assert memory is not None
        container = await self._created(row, version)
        try:
            await self._node.thaw(container, memory, greet)
        except BaseException:
            await asyncio.shield(self._node.destroy(container))
            raise
        return container

    async def _created(self, row: SandboxRow, version: Version) -> Container:
        agent = version.memory.agent_image if version.memory else self._node.agent_image.name
        return await self._node.create(
            row.id,
            root=root_of(self._node, version),
            limits=cgroups.Limits(cpu=row.cpu, memory_mb=row.memory_mb),
            disk_gb=version.disk_gb,
            agent_image=self._node.layout.runtime / agent,
            hostname=row.id,
            internet=row.internet_access,
        )

    def _container(self, row: SandboxRow) -> Container:
        """The container that belongs to a running sandbox's row."""
        assert row.slot is not None
        return Container(
            id=row.id,
            slot=self._node.slots.network.slot(row.slot),
            cgroup=cgroups.of(self._node.cgroup_parent, row.id),
            bundle=self._node.layout.bundles / row.id,
            secret=row.secret,
            disk_gb=row.disk_gb,
            internet=row.internet_access,
        )

    async def _forget(self, sandbox_id: str) -> bool:
        async with self._database.write() as connection:
            return await rows.delete(connection, sandbox_id)

    async def _undo(self, sandbox_id: str) -> None:
        await self._forget(sandbox_id)
        await self._free(sandbox_id)

    async def _free(self, sandbox_id: str) -> None:
        watcher = self._watchers.pop(sandbox_id, None)
        if watcher is not None:
            watcher.cancel()
        container = self._held.pop(sandbox_id, None)
        if container is not None:
            await asyncio.shield(self._node.destroy(container))
        await retire_versions(self._node.layout, self._database, self._pins)

    def _hold(self, container: Container) -> None:
        self._held[container.id] = container
        self._watchers[container.id] = asyncio.create_task(self._watch_until_death(container))

    async def _watch_until_death(self, container: Container) -> None:
        """Notice that a sandbox died by itself, say why in its record, and free what it held."""
        await container.died.wait()
        if container.out_of_memory:
            reason = "out of memory: it needed more than its template's memory"
        else:
            reason = "its runtime process ended"
        async with self._database.write() as connection:
            await rows.update(connection, container.id, status="error", reason=reason, slot=None)
        log.warning("sandbox_died", sandbox_id=container.id, reason=reason)
        self._watchers.pop(container.id, None)
        if self._held.pop(container.id, None) is not None:
            await self._node.destroy(container)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                async with self._database.read() as connection:
                    due = await rows.due(connection, time.time())
                for row in due:
                    if await self._forget(row.id):
                        log.info("sandbox_expired", sandbox_id=row.id)
                        await self._free(row.id)
            except Exception:
                log.exception("sweep_failed")

    async def _reconcile(self) -> None:
        async with self._database.read() as connection:
            known = {row.id: row for row in await rows.list_all(connection)}
        running = await self._node.runsc.statuses()
        for row in known.values():
            container_alive = running.get(row.id) == "running"
            if row.status == "running" and row.slot is not None and container_alive:
                self._node.slots.adopt(row.slot)
                container = self._container(row)
                self._node.watch(container)
                self._hold(container)
            elif row.status == "creating":
                await self._forget(row.id)  # was never answered
            elif row.status == "running":
                async with self._database.write() as connection:
                    await rows.update(
                        connection,
                        row.id,
                        status="error",
                        reason="lost while the server or the machine was down",
                        slot=None,
                    )
        log.info("sandboxes_adopted", count=len(self._held))
        await remove_leftovers(self._node, keep=self._held.values())


def _cores() -> int:
    return len(os.sched_getaffinity(0))
