"""Builds, from the request to the published template.

The table of builds is the queue: a row is ``queued``, then ``building``, then ``active`` or ``failed``. After a crash,
rows that were ``building`` are queued again; such a build finds its finished steps in the cache.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path

from structlog.contextvars import bound_contextvars

from thawbox import log as logs
from thawbox import metrics
from thawbox.catalog.entries import CatalogEntry
from thawbox.errors import AliasExists, BuildError, MachineDiskFull, ThawboxError
from thawbox.node.runtime import Runtime
from thawbox.settings import Settings
from thawbox.snapshots.garbage import remove_unreferenced_uploads, retire_versions
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.pins import Pins
from thawbox.store import builds, templates
from thawbox.store.builds import BuildRow
from thawbox.store.database import Database
from thawbox.store.enums import BuildStatus, TemplateStatus
from thawbox.templates import codec
from thawbox.templates.recipe import Recipe
from thawbox.util import full_disk
from thawbox.util.keyed_lock import KeyedLock

from . import copies, history, quota, records
from .job import BuildJob
from .log import BuildLog
from .pipeline import build
from .refresh import refresh_snapshots
from .timings import BuildTimings

log = logs.get(__name__)


class BuildService:
    """Takes build requests and works on them. Used from one event loop."""

    def __init__(
        self,
        node: Runtime,
        database: Database,
        settings: Settings,
        pins: Pins,
        *,
        built: Callable[[Version, str], Awaitable[None]],
    ) -> None:
        """``built`` is awaited with each new version and its template's name just before it is published."""
        self._built = built
        self._node = node
        self._database = database
        self._settings = settings
        self._pins = pins
        self._limit = settings.build_concurrency or len(os.sched_getaffinity(0))
        self._running: dict[int, asyncio.Task[None]] = {}
        """template id -> its build"""
        self._cancelled: set[int] = set()
        self._locks = KeyedLock()
        self._work = asyncio.Event()
        self._dispatcher: asyncio.Task[None] | None = None
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on with what an earlier server left, and begin to take builds out of the queue."""
        async with self._database.write() as connection:
            again = await builds.requeue_interrupted(connection)
        for unfinished in self._node.layout.uploads.glob("*.part"):
            unfinished.unlink(missing_ok=True)
        if again:
            log.info("builds_continued", builds=again)
        self._work.set()
        self._dispatcher = asyncio.create_task(self._dispatch_for_ever())
        self._refresher = asyncio.create_task(
            refresh_snapshots(self._node, self._database, self._pins, self._locks.hold)
        )

    async def stop(self) -> None:
        """Stop working; running builds continue after the next start."""
        tasks = [task for task in (self._dispatcher, self._refresher) if task is not None]
        tasks += self._running.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, organization_id: int, recipe: Recipe) -> int:
        """Queue a build; returns the template's id, which is the API's build id as well.

        Raises:
            AliasExists: the organisation has a template of that name and ``update`` is false.
            RateLimited: too many builds.
            InvalidTemplate: files of a COPY step were not uploaded.
        """
        async with self._database.read() as connection:
            blobs = await copies.find_blobs(connection, organization_id, recipe)
        await copies.check_sources(self._node.layout.uploads, self._settings, recipe, blobs)
        async with self._database.write() as connection:
            existing = await templates.get_own(connection, organization_id, recipe.name)
            if existing is not None and not recipe.update and existing.status != TemplateStatus.FAILED:
                raise AliasExists(f"A template with alias '{recipe.name}' already exists")
            await quota.check(connection, self._settings, organization_id)
            template_id = await records.template_to_build(connection, organization_id, recipe, existing)
            await records.end_waiting(connection, template_id, "superseded by a newer build")
            build = await builds.create(
                connection,
                template_id=template_id,
                organization_id=organization_id,
                recipe={"recipe": codec.recipe_to_json(recipe), "files": copies.to_json(blobs)},
                credentials=codec.credentials_to_json(recipe.credentials) if recipe.credentials else None,
            )
            self._clear_log(build)
        self._work.set()
        return template_id

    async def submit_public(self, entry: CatalogEntry, *, skip_cache: bool = False) -> int:
        """Queue a build of a ready-made template, unless one waits or runs already; returns the template's id.

        The template belongs to no organisation, and the build counts against no quota.

        Raises:
            InvalidTemplate: the settings allow less than it needs.
        """
        recipe = replace(entry.recipe(self._settings), update=True, skip_cache=skip_cache)
        async with self._database.write() as connection:
            existing = await templates.get_own(connection, None, recipe.name)
            if existing is not None:
                newest = await builds.newest(connection, existing.id)
                if newest is not None and not newest.ended:
                    return existing.id
            template_id = await records.template_to_build(connection, None, recipe, existing)
            await templates.update(connection, template_id, **asdict(entry.about))
            build = await builds.create(
                connection,
                template_id=template_id,
                organization_id=builds.CATALOGUE,
                recipe={"recipe": codec.recipe_to_json(recipe), "files": copies.to_json({})},
                counts=False,
            )
            self._clear_log(build)
        self._work.set()
        return template_id

    def _clear_log(self, build: BuildRow) -> None:
        """Remove a log of the same name, which an earlier database left. To be called before the row is committed."""
        self.log_path(build).unlink(missing_ok=True)

    async def cancel(self, template_id: int) -> None:
        """Stop a waiting or running build of the template; returns when it has ended."""
        self._cancelled.add(template_id)
        try:
            async with self._database.write() as connection:
                await records.end_waiting(connection, template_id, "cancelled")
            task = self._running.get(template_id)
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        finally:
            self._cancelled.discard(template_id)

    async def forget(self, template_id: int) -> None:
        """The template was deleted: remove what only it needed."""
        history.forget(self._node.layout, template_id)
        for path in self._node.layout.logs.glob(f"{template_id}.*.log"):
            path.unlink(missing_ok=True)
        await retire_versions(self._node.layout, self._database, self._pins)

    def log_path(self, build: BuildRow) -> Path:
        """The log of this attempt."""
        return self._node.layout.logs / f"{build.template_id}.{build.id}.log"

    async def _dispatch_for_ever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                while len(self._running) < self._limit:
                    async with self._database.write() as connection:
                        row = await builds.claim_next(connection)
                    if row is None:
                        break
                    self._running[row.template_id] = asyncio.create_task(self._run(row))
            except Exception:
                log.exception("dispatch_failed")
                await asyncio.sleep(1)
                self._work.set()

    async def _run(self, row: BuildRow) -> None:
        began = time.monotonic()
        job_log = BuildLog.open(self.log_path(row))
        outcome = BuildStatus.FAILED
        try:
            with job_log, bound_contextvars(build_id=row.template_id, organization_id=row.organization_id):
                try:
                    with self._pins.holder() as pin:
                        job = await self._job(row, job_log)
                        version = await build(self._node, self._settings, job, pin)
                        seconds = time.monotonic() - began
                        job_log.write("INFO", f"template {job.recipe.name} is ready: {seconds:.1f} s in all")
                        await self._built(version, job.recipe.name)
                        await self._publish(row, version, job.timings)
                    outcome = BuildStatus.ACTIVE
                except asyncio.CancelledError:
                    if row.template_id in self._cancelled:
                        await asyncio.shield(self._fail(row, job_log, "cancelled"))
                    raise
                except Exception as error:
                    if not isinstance(error, BuildError | MachineDiskFull):
                        log.exception("build_broke")
                    await self._fail(row, job_log, _reason(error))
        finally:
            metrics.BUILDS.labels(outcome=outcome).inc()
            metrics.BUILD_SECONDS.labels(outcome=outcome).observe(time.monotonic() - began)
            self._running.pop(row.template_id, None)
            self._work.set()
            for older in self._node.layout.logs.glob(f"{row.template_id}.*.log"):
                if older != self.log_path(row) and int(older.name.split(".")[1]) < row.id:
                    older.unlink(missing_ok=True)

    async def _job(self, row: BuildRow, job_log: BuildLog) -> BuildJob:
        recipe = codec.recipe_from_json(row.recipe["recipe"])
        if row.credentials:
            recipe = replace(recipe, credentials=codec.credentials_from_json(row.credentials))
        blobs = copies.from_json(row.recipe["files"])

        async def progress(percent: int, what: str) -> None:
            async with self._database.write() as connection:
                await builds.set_progress(connection, row.id, percent, what)

        return BuildJob(
            organization_id=row.organization_id,
            template_id=row.template_id,
            recipe=recipe,
            files=await copies.open_blobs(self._node.layout.uploads, self._settings, blobs),
            log=job_log.write,
            progress=progress,
            once=self._locks.hold,
        )

    async def _publish(self, row: BuildRow, version: Version, timings: BuildTimings) -> None:
        async with self._database.write() as connection:
            await records.publish(connection, row, version, timings)
        for phase, seconds in timings.phases.items():
            metrics.BUILD_PHASE_SECONDS.labels(phase=phase).observe(seconds)
        await self._clean()

    async def _fail(self, row: BuildRow, job_log: BuildLog, message: str) -> None:
        job_log.write("ERROR", f"❌ build failed: {message}")
        async with self._database.write() as connection:
            await records.fail(connection, row, message)
        await self._clean()

    async def _clean(self) -> None:
        await retire_versions(self._node.layout, self._database, self._pins)
        await remove_unreferenced_uploads(self._node.layout, self._database)


def _reason(error: Exception) -> str:
    """What the build's owner reads."""
    if isinstance(error, BuildError | MachineDiskFull):
        return error.message
    if isinstance(error, ThawboxError):
        return f"internal error: {error.message}"
    if full_disk.is_full_disk(error):
        return MachineDiskFull().message
    return f"internal error: {type(error).__name__}: {error}"
