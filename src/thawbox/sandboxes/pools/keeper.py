"""Keeps the pools: makes what is lacking when nobody waits, hands out, discards what died or is out of date."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from thawbox import guest, ids, metrics
from thawbox import log as logs
from thawbox.errors import ThawboxError
from thawbox.guest import GuestError
from thawbox.node.cgroups import Limits
from thawbox.node.container import Container
from thawbox.node.runtime import Runtime
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.start import introduce, root_of
from thawbox.store import templates
from thawbox.store.database import Database

from .demand import Bounds, Candidate, targets
from .pool import Pool, living

log = logs.get(__name__)

LOOK_INTERVAL_S = 1.0
RETRY_S = 30.0
"""After a failure: a template that does not thaw must not keep the machine busy."""
SIDE_BY_SIDE = 4
"""How many are discarded at once."""
READY_MB, SHELL_MB = 28.0, 20.0
"""Measured (docs/performance.md); a thawed one has the snapshot's pages besides what a small one has."""
BREATH_S = 0.03
"""Who has just got a sandbox runs a first command in it: until then nothing is begun."""
COMPLAIN_MISSES = 5
COMPLAIN_INTERVAL_S = 60.0


class Pools:
    """The pools of this node. Used from one event loop.

    A container in a pool is in no row. So after a crash it is a leftover like any other, and the next start removes
    it.
    """

    def __init__(
        self,
        node: Runtime,
        database: Database,
        settings: Settings,
        *,
        is_short: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._database = database
        self._settings = settings
        self._is_short = is_short
        self._clock = clock
        self._bounds = Bounds(
            floor=settings.pool_min,
            ceiling=settings.pool_max,
            shells=settings.pool_shells,
            memory_mb=settings.pool_memory_mb,
        )
        self._pools: dict[str, Pool] = {}
        self._names: dict[str, str] | None = None
        """Of the versions that templates boot from; None before the first look."""
        self._making = asyncio.Lock()
        self._waiting = 0
        self._claimed_at = -math.inf
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._lacking = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._discards: set[asyncio.Task[None]] = set()
        self._complained: dict[str, tuple[int, float]] = {}

    async def start(self) -> None:
        """Begin to keep them."""
        if self._bounds.ceiling:
            self._tasks = [asyncio.create_task(self._look_for_ever()), asyncio.create_task(self._refill())]

    async def stop(self) -> None:
        """Destroy all that wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        gone = [one for pool in self._pools.values() for one in pool.take_all()]
        self._pools.clear()
        await self._discard(gone)
        await asyncio.gather(*self._discards)

    def claim(self, key: str, *, thawed: bool) -> Container | None:
        """A container of that version, which is the caller's from now on; None if none waits."""
        pool = self._pools.get(key)
        container = pool.take(thawed=thawed) if pool is not None else None
        if container is not None:
            self._claimed_at = self._clock()
            self._lacking.set()
        return container

    def asked(self, key: str, *, found: bool) -> None:
        """Somebody wants a sandbox of that version, and a thawed one was there or not."""
        pool = self._pools.get(key)
        if pool is None:
            return
        now = self._clock()
        pool.demand = pool.demand.raised(now, self._settings.pool_half_life_s)
        if found:
            pool.hits += 1
        else:
            pool.misses += 1
            metrics.POOL_MISSES.labels(template=pool.template).inc()
            self._complain(pool, now)
        self._aim()

    @contextlib.contextmanager
    def somebody_waits(self) -> Iterator[None]:
        """As long as this block lasts nothing is begun for the pools: requests go first."""
        self._waiting += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._quiet.set()

    async def built(self, version: Version, template: str) -> None:
        """Have one ready of a version that is about to be published. Does nothing if that does not work."""
        if not self._bounds.ceiling or not version.thaws_with(self._node.digest):
            return
        pool = self._of(version, template)
        pool.demand = pool.demand.raised(self._clock(), self._settings.pool_half_life_s)
        self._aim()
        async with self._making:
            if pool.target.ready > len(pool.ready) and not self._is_short():
                await self._make(pool)

    async def give_up(self) -> bool:
        """Discard all that wait, because memory is wanted; whether there were any."""
        gone = [one for pool in self._pools.values() for one in pool.take_all()]
        await self._discard(gone)
        return bool(gone)

    def figures(self) -> list[dict[str, Any]]:
        """Each pool, for people and programs; times are milliseconds."""
        now = self._clock()
        return [
            {
                "template": pool.template,
                "snapshot": pool.version.key,
                "ready": living(pool.ready),
                "ready_target": pool.target.ready,
                "shells": living(pool.shells),
                "shells_target": pool.target.shells,
                "demand": round(pool.demand.faded(now, self._settings.pool_half_life_s), 2),
                "hits": pool.hits,
                "misses": pool.misses,
                "refill_ms": pool.refill_ms,
            }
            for pool in self._pools.values()
        ]

    # What follows keeps them.

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("pool_look_failed")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Compare with what the templates boot from now; discard what is out of date, dead, or too much."""
        async with self._database.read() as connection:
            names = await templates.names_of_snapshots(connection)
        now = self._clock()
        for key, name in names.items():
            known = self._pools.get(key)
            if known is None or known.failed_at is not None:  # its memory may have been made again since
                version = await asyncio.to_thread(versions.load, self._node.layout, key)
                if version is not None and version.thaws_with(self._node.digest):
                    self._of(version, name)
        gone: list[Container] = []
        for key, pool in list(self._pools.items()):
            if key in names:
                pool.published = True
            elif pool.published or now - pool.since > RETRY_S:
                del self._pools[key]
                gone += pool.take_all()
                metrics.POOL_READY.labels(template=pool.template).set(0)
        self._aim()
        for pool in self._pools.values():
            gone += pool.surplus()
            metrics.POOL_READY.labels(template=pool.template).set(len(pool.ready))
        self._lacking.set()
        await self._discard(gone)

    def _of(self, version: Version, template: str) -> Pool:
        pool = self._pools.get(version.key)
        if pool is not None:
            pool.version = version
        else:
            pages = versions.snapshot_path(self._node.layout, version)
            assert pages is not None
            size = 0
            with contextlib.suppress(OSError):
                size = (pages / "pages.img").stat().st_size
            pool = self._pools[version.key] = Pool(version, template, size / 2**20, self._clock())
        return pool

    def _aim(self) -> None:
        now = self._clock()
        candidates = {
            key: Candidate(
                pool.demand.faded(now, self._settings.pool_half_life_s), READY_MB + pool.pages_mb, SHELL_MB
            )
            for key, pool in self._pools.items()
        }
        for key, target in targets(candidates, self._bounds).items():
            self._pools[key].target = target
        self._lacking.set()

    async def _refill(self) -> None:
        while True:
            await self._lacking.wait()
            if self._clock() - self._claimed_at < BREATH_S:
                await asyncio.sleep(BREATH_S)
            await self._quiet.wait()
            async with self._making:
                pool = self._neediest()
                if pool is None or self._is_short():
                    self._lacking.clear()
                    continue
                try:
                    await self._make(pool)
                except Exception:
                    log.exception("pool_refill_broke")
                    pool.failed_at = self._clock()

    def _neediest(self) -> Pool | None:
        """The pool that is the emptiest for what it should have; thawed ones before shells."""
        now = self._clock()
        lacking = [
            pool
            for pool in self._pools.values()
            if pool.lacks() and (pool.failed_at is None or now - pool.failed_at > RETRY_S)
        ]
        return max(
            lacking,
            key=lambda pool: (
                pool.target.ready - len(pool.ready) > 0,
                1 - len(pool.ready) / max(1, pool.target.ready),
                pool.demand.faded(now, self._settings.pool_half_life_s),
            ),
            default=None,
        )

    async def _make(self, pool: Pool) -> None:
        """Make one thawed container, or a shell if there are enough of those; it is in the pool then."""
        began = time.perf_counter()
        thawed = len(pool.ready) < pool.target.ready
        try:
            container = await self._create(pool.version)
            try:
                if thawed:
                    await self._thaw(container, pool.version)
            except BaseException:
                await asyncio.shield(self._node.destroy(container))
                raise
        except ThawboxError as error:
            pool.failed_at = self._clock()
            metrics.RESTORE_FAILURES.inc()
            log.error("pool_refill_failed", template=pool.template, error=error.message)
            return
        if self._pools.get(pool.version.key) is not pool:
            await asyncio.shield(self._node.destroy(container))
            return
        pool.failed_at = None
        pool.refill_ms = round((time.perf_counter() - began) * 1000, 1)
        (pool.ready if thawed else pool.shells).append(container)
        if thawed:
            metrics.POOL_REFILL_SECONDS.observe(time.perf_counter() - began)

    async def _create(self, version: Version) -> Container:
        assert version.snapshot is not None
        name = ids.sandbox_id()
        return await self._node.create(
            name,
            root=root_of(self._node, version),
            limits=Limits(cpu=version.cpu, memory_mb=version.memory_mb),
            disk_gb=version.disk_gb,
            agent_image=self._node.layout.runtime / version.snapshot.agent_image,
            hostname=name,
        )

    async def _thaw(self, container: Container, version: Version) -> None:
        folder = versions.snapshot_path(self._node.layout, version)
        assert folder is not None
        greet = functools.partial(introduce, hostname=container.id, template_env=version.env, env={})
        await self._node.thaw(container, folder, greet)
        # The first program after a thaw costs twice what later ones do; it is paid here. A root need not have a shell.
        with contextlib.suppress(GuestError):
            await self._node.greet(
                container, functools.partial(guest.run, argv=["/bin/sh", "-c", ":"], timeout=5)
            )

    async def _discard(self, containers: list[Container]) -> None:
        """Destroy them. Whoever waits for that may be cancelled; they are in no pool any more, and go all the same."""
        if not containers:
            return
        task = asyncio.create_task(self._destroy(containers))
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)
        await asyncio.shield(task)

    async def _destroy(self, containers: list[Container]) -> None:
        for first in range(0, len(containers), SIDE_BY_SIDE):
            batch = containers[first : first + SIDE_BY_SIDE]
            destroyed = (self._node.destroy(one) for one in batch)
            results = await asyncio.gather(*destroyed, return_exceptions=True)
            for error in results:
                if isinstance(error, Exception):
                    log.error("pool_discard_failed", error=repr(error))

    def _complain(self, pool: Pool, now: float) -> None:
        misses, since = self._complained.get(pool.version.key, (0, now))
        if now - since > COMPLAIN_INTERVAL_S:
            misses, since = 0, now
        misses += 1
        if misses == COMPLAIN_MISSES:
            score = pool.demand.faded(now, self._settings.pool_half_life_s)
            setting = (
                "THAWBOX_POOL_MAX" if math.ceil(score) > self._bounds.ceiling else "THAWBOX_POOL_MEMORY_MB"
            )
            log.warning(
                "pool_misses",
                template=pool.template,
                misses=misses,
                within_s=round(now - since, 1),
                target=pool.target.ready,
                remedy=f"more would be ready with a higher {setting}, or THAWBOX_POOL_MIN",
            )
        self._complained[pool.version.key] = (misses, since)
