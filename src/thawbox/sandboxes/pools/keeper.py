"""Keeps the pools: makes what is lacking while no request waits, hands out, discards what died or is out of date."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from thawbox import log as logs
from thawbox import metrics
from thawbox.errors import ThawboxError
from thawbox.node.container import Container
from thawbox.node.runtime import Runtime
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.store import templates
from thawbox.store.database import Database

from . import making
from .demand import Bounds, Candidate, targets
from .misses import MissWarnings
from .pool import Pool, living

log = logs.get(__name__)

REFRESH_INTERVAL_S = 1.0
RETRY_S = 30.0
"""Wait after a failure: a template that does not thaw must not keep the machine busy."""
DISCARDS_AT_ONCE = 4
"""How many containers are destroyed at the same time."""
READY_MB, SHELL_MB = 28.0, 20.0
"""Measured (docs/performance.md). A thawed one takes the size of its snapshot on top of this."""
REFILL_DELAY_S = 0.03
"""Do not start a refill within this time of a claim: the new owner is about to run the first command."""


class Pools:
    """The pools of this node. Used from one event loop.

    A container in a pool has no row. So after a crash it is a leftover, which the next start removes.
    """

    def __init__(
        self,
        node: Runtime,
        database: Database,
        settings: Settings,
        *,
        is_low: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._database = database
        self._settings = settings
        self._is_low = is_low
        self._clock = clock
        self._bounds = Bounds(
            floor=settings.pool_min,
            ceiling=settings.pool_max,
            shells=settings.pool_shells,
            memory_mb=settings.pool_memory_mb,
        )
        self._pools: dict[str, Pool] = {}
        self._making = asyncio.Lock()
        self._waiting = 0
        self._claimed_at = -math.inf
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._lacking = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._discards: set[asyncio.Task[None]] = set()
        self._warnings = MissWarnings(self._bounds)

    async def start(self) -> None:
        """Start the tasks that keep the pools."""
        if self._bounds.ceiling:
            self._tasks = [
                asyncio.create_task(self._refresh_periodically()),
                asyncio.create_task(self._refill()),
            ]

    async def stop(self) -> None:
        """Stop the tasks and destroy all containers that wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        gone = [one for pool in self._pools.values() for one in pool.take_all()]
        self._pools.clear()
        await self._discard(gone)
        await asyncio.gather(*self._discards)

    def claim(self, key: str, *, thawed: bool) -> Container | None:
        """Take a container of that version out of its pool; None if none waits. The caller uses it or destroys it.

        ``thawed``: a thawed one, else a shell.
        """
        pool = self._pools.get(key)
        container = pool.take(thawed=thawed) if pool is not None else None
        if container is not None:
            self._claimed_at = self._clock()
            self._lacking.set()
        return container

    def record_request(self, key: str, *, found: bool) -> None:
        """Count a request for a sandbox of that version; ``found``: a thawed container waited for it."""
        pool = self._pools.get(key)
        if pool is None:
            return
        now = self._clock()
        pool.demand = pool.demand.with_request(now, self._settings.pool_half_life_s)
        if found:
            pool.hits += 1
        else:
            pool.misses += 1
            metrics.POOL_MISSES.labels(template=pool.template).inc()
            self._warnings.record(pool, now, self._settings.pool_half_life_s)
        self._set_targets()

    @property
    def by_version(self) -> Mapping[str, Pool]:
        """The pools by their versions' keys."""
        return self._pools

    @contextlib.contextmanager
    def without_refills(self) -> Iterator[None]:
        """Start no refill as long as the block lasts: requests go first."""
        self._waiting += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._quiet.set()

    async def prepare(self, version: Version, template: str) -> None:
        """Make one container ready of a version that is about to be published. A failure is logged and ignored."""
        if not self._bounds.ceiling or not version.thaws_with(self._node.digest):
            return
        pool = self._pool_of(version, template)
        pool.demand = pool.demand.with_request(self._clock(), self._settings.pool_half_life_s)
        self._set_targets()
        async with self._making:
            if pool.target.ready > len(pool.ready) and not self._is_low():
                await self._make(pool)

    async def discard_all(self) -> bool:
        """Destroy all containers that wait, because memory is low. Returns whether there were any."""
        gone = [one for pool in self._pools.values() for one in pool.take_all()]
        await self._discard(gone)
        return bool(gone)

    def figures(self) -> list[dict[str, Any]]:
        """One dict per pool, for ``thaw pools``; times are milliseconds."""
        now = self._clock()
        return [
            {
                "template": pool.template,
                "snapshot": pool.version.key,
                "ready": living(pool.ready),
                "ready_target": pool.target.ready,
                "shells": living(pool.shells),
                "shells_target": pool.target.shells,
                "demand": round(pool.demand.decayed(now, self._settings.pool_half_life_s), 2),
                "hits": pool.hits,
                "misses": pool.misses,
                "refill_ms": pool.refill_ms,
            }
            for pool in self._pools.values()
        ]

    async def _refresh_periodically(self) -> None:
        while True:
            try:
                await self.refresh()
            except Exception:
                log.exception("pool_look_failed")
            await asyncio.sleep(REFRESH_INTERVAL_S)

    async def refresh(self) -> None:
        """Compare the pools with what templates boot from now; discard what is outdated, dead, or beyond the target."""
        async with self._database.read() as connection:
            names = await templates.names_of_snapshots(connection)
        now = self._clock()
        for key, name in names.items():
            known = self._pools.get(key)
            if known is None or known.failed_at is not None:  # its snapshot may have been made again since
                version = await asyncio.to_thread(versions.load, self._node.layout, key)
                if version is not None and version.thaws_with(self._node.digest):
                    self._pool_of(version, name)
        gone: list[Container] = []
        for key, pool in list(self._pools.items()):
            if key in names:
                pool.published = True
            elif pool.published or now - pool.since > RETRY_S:
                del self._pools[key]
                gone += pool.take_all()
                metrics.POOL_READY.labels(template=pool.template).set(0)
        self._set_targets()
        for pool in self._pools.values():
            gone += pool.surplus()
            metrics.POOL_READY.labels(template=pool.template).set(len(pool.ready))
        self._lacking.set()
        await self._discard(gone)

    def _pool_of(self, version: Version, template: str) -> Pool:
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

    def _set_targets(self) -> None:
        now = self._clock()
        candidates = {
            key: Candidate(
                pool.demand.decayed(now, self._settings.pool_half_life_s), READY_MB + pool.pages_mb, SHELL_MB
            )
            for key, pool in self._pools.items()
        }
        for key, target in targets(candidates, self._bounds).items():
            self._pools[key].target = target
        self._lacking.set()

    async def _refill(self) -> None:
        while True:
            await self._lacking.wait()
            if self._clock() - self._claimed_at < REFILL_DELAY_S:
                await asyncio.sleep(REFILL_DELAY_S)
            await self._quiet.wait()
            async with self._making:
                pool = self._neediest()
                if pool is None or self._is_low():
                    self._lacking.clear()
                    continue
                try:
                    await self._make(pool)
                except Exception:
                    log.exception("pool_refill_broke")
                    pool.failed_at = self._clock()

    def _neediest(self) -> Pool | None:
        """The pool that is emptiest in relation to its target; those that lack thawed ones come before the others."""
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
                pool.demand.decayed(now, self._settings.pool_half_life_s),
            ),
            default=None,
        )

    async def _make(self, pool: Pool) -> None:
        """Add one thawed container to the pool, or a shell if there are enough thawed ones."""
        began = time.perf_counter()
        thawed = len(pool.ready) < pool.target.ready
        try:
            container = await making.create(self._node, pool.version)
            try:
                if thawed:
                    await making.thaw(self._node, container, pool.version)
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

    async def _discard(self, containers: list[Container]) -> None:
        """Destroy them. They are in no pool any more, so a cancelled caller does not stop this."""
        if not containers:
            return
        task = asyncio.create_task(self._destroy(containers))
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)
        await asyncio.shield(task)

    async def _destroy(self, containers: list[Container]) -> None:
        for first in range(0, len(containers), DISCARDS_AT_ONCE):
            batch = containers[first : first + DISCARDS_AT_ONCE]
            destroyed = (self._node.destroy(one) for one in batch)
            results = await asyncio.gather(*destroyed, return_exceptions=True)
            for error in results:
                if isinstance(error, Exception):
                    log.error("pool_discard_failed", error=repr(error))
