"""Removes files without a reference: versions of templates, images, layers, uploads, agents, logs (``thaw gc``).

References are rows (templates, sandboxes, queued builds, uploads), manifests, and the pins of work under way.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from thawbox.agent_image import AGENT_IMAGES
from thawbox.machine.selftest import agent_that_passed
from thawbox.state import Layout
from thawbox.store import builds, sandboxes, templates, uploads
from thawbox.store.database import Database
from thawbox.store.enums import BuildStatus

from . import layers, manifest
from .pins import Pins

YOUNG_S = 60
BUILDS_KEPT_S = 30 * 86_400
"""How long the row of an ended build is kept, if its template is gone or was built again since."""
UPLOADS_KEPT_S = 3600
"""How long an upload is kept for a build that may still be requested."""
BASE_IMAGE = "base-{layer}.erofs"
"""Name of the EROFS image of a base image's layer; it goes when the layer goes."""


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """How many of each kind were removed, and how many bytes that gave back."""

    removed: dict[str, int] = field(default_factory=dict)
    bytes: int = 0

    def __add__(self, other: GarbageReport) -> GarbageReport:
        """Both together; the order of the kinds is that of their first mention."""
        kinds = dict.fromkeys([*self.removed, *other.removed])
        counts = {kind: self.removed.get(kind, 0) + other.removed.get(kind, 0) for kind in kinds}
        return GarbageReport(counts, self.bytes + other.bytes)


async def collect(
    layout: Layout, database: Database, pins: Pins, agent_in_use: str | None = None
) -> GarbageReport:
    """Remove versions, images, layers and uploads that no template, sandbox or build needs, downloads and old builds.

    Layers (base images too) that only failed or deleted templates used are a cache, and are removed as well.
    ``agent_in_use``: file name of the agent's image that the running server starts sandboxes with.
    """
    async with database.write() as connection:
        await uploads.delete_before(connection, time.time() - UPLOADS_KEPT_S)
        ended = await builds.delete_ended_before(connection, time.time() - BUILDS_KEPT_S)
    freed = await retire_versions(layout, database, pins)
    files = await remove_unreferenced_uploads(layout, database)
    keep = layers_of_versions(layout) | pins.names()
    count, size = await asyncio.to_thread(layers.collect, layout, keep, unused_for_s=0)
    freed += GarbageReport({"layers": count}, size)
    freed += await retire_versions(layout, database, pins)  # images whose layers have just gone
    freed += files
    cached = await asyncio.to_thread(_empty_cache, layout)
    logs = await _remove_logs_without_template(layout, database)
    freed += GarbageReport({"logs": logs, "builds": len(ended)}, cached)
    return freed + await remove_old_agents(layout, database, agent_in_use)


async def retire_versions(
    layout: Layout, database: Database, pins: Pins, *, of: str | None = None
) -> GarbageReport:
    """Remove versions that no template and no sandbox boots from, and images that no version needs.

    To be called whenever a reference is removed: a template was replaced or deleted, a sandbox ended. ``of``: the key
    of the only version that lost a reference. If a template still refers to it, there is nothing to do.
    """
    async with database.read() as connection:
        wanted = await templates.snapshot_keys(connection)
        if of in wanted:
            return GarbageReport()
        wanted |= await sandboxes.snapshot_keys(connection)
    # No await from here until the images are removed, so that no pin can be taken meanwhile.
    doomed = [
        folder
        for folder in layout.snapshots.iterdir()
        if folder.name not in wanted and folder.name not in pins
    ]
    for folder in doomed:
        manifest.remove(layout, folder.name)  # first, so that it is not found any more
    needed = {version.image for version in manifest.references(layout)}
    needed |= {BASE_IMAGE.format(layer=layer.name) for layer in layout.layers.iterdir()}
    images = [
        image for image in layout.images.iterdir() if image.name not in needed and image.name not in pins
    ]
    freed = sum(_size(path) for path in (*doomed, *images))
    for image in images:
        image.unlink()  # a sandbox that has it mapped keeps it until it ends
    for folder in doomed:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return GarbageReport({"snapshots": len(doomed), "images": len(images)}, freed)


def layers_of_versions(layout: Layout) -> set[str]:
    """Ids of the layers that existing versions were made of."""
    return {layer for version in manifest.references(layout) for layer in version.layers}


async def remove_unreferenced_uploads(layout: Layout, database: Database) -> GarbageReport:
    """Remove uploaded files that neither an upload's row nor a waiting or running build names."""
    async with database.read() as connection:
        wanted = await uploads.blobs(connection)
        for build in await builds.with_status(connection, BuildStatus.QUEUED, BuildStatus.BUILDING):
            wanted |= {blob for files in build.recipe["files"].values() for blob in files["blobs"].values()}
    doomed = [
        path
        for path in layout.uploads.iterdir()
        # A file is there a moment before the row that names it.
        if path.name not in wanted and path.suffix != ".part" and time.time() - path.stat().st_mtime > YOUNG_S
    ]
    freed = sum(_size(path) for path in doomed)
    for path in doomed:
        path.unlink(missing_ok=True)
    return GarbageReport({"uploads": len(doomed)}, freed)


async def remove_old_agents(layout: Layout, database: Database, in_use: str | None) -> GarbageReport:
    """Remove images of agents that no version was frozen with and no sandbox has.

    Two more are kept: the one ``in_use`` by the running server, and the one that the next server will use. If the
    latter is not known, none is removed.
    """
    next_one = agent_that_passed(layout)
    if next_one is None:
        return GarbageReport({"agents": 0})
    async with database.read() as connection:
        wanted = {row.agent_image for row in await sandboxes.list_all(connection)}
    wanted |= {version.agent_image for version in manifest.references(layout)}
    doomed = [
        image
        for image in layout.runtime.glob(AGENT_IMAGES)
        if image.name not in wanted and image.name not in (in_use, next_one)
    ]
    freed = sum(_size(path) for path in doomed)
    for path in doomed:
        path.unlink(missing_ok=True)
    return GarbageReport({"agents": len(doomed)}, freed)


def _size(path: Path) -> int:
    return layers.size_of(path) if path.is_dir() else path.lstat().st_blocks * 512


def _empty_cache(layout: Layout) -> int:
    freed = layers.size_of(layout.cache)
    for entry in layout.cache.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return freed


async def _remove_logs_without_template(layout: Layout, database: Database) -> int:
    async with database.read() as connection:
        alive = {str(template.id) for template in await templates.list_all(connection)}
    gone = [path for path in layout.logs.iterdir() if path.name.partition(".")[0] not in alive]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
