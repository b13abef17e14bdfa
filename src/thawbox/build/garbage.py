"""``thaw gc``: everything that can be made again or that nobody refers to."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass

from thawbox.node.layout import Layout
from thawbox.sandboxes.garbage import (
    Pins,
    layers_of_versions,
    remove_old_agents,
    remove_unreferenced_uploads,
    retire_versions,
)
from thawbox.store import builds, templates, uploads
from thawbox.store.database import Database

from . import layers

BUILDS_KEPT_S = 30 * 86_400
"""How long a build that has ended can be asked for, if its template is gone or was built again since."""
UPLOADS_KEPT_S = 3600
"""A build may still be asked for with what was uploaded this recently."""


@dataclass(frozen=True)
class Freed:
    """How many of each kind went, and how many bytes that gave back."""

    removed: dict[str, int]
    bytes: int


async def collect(layout: Layout, database: Database, pins: Pins, agent_in_use: str | None = None) -> Freed:
    """Remove versions, images, layers and uploads that no template, sandbox or build needs, downloads and old builds.

    ``agent_in_use``: file name of the agent's image that the running server starts sandboxes with.

    Layers that only failed or deleted templates used are cache; they go too, base images among them.
    """
    async with database.write() as connection:
        await uploads.delete_before(connection, time.time() - UPLOADS_KEPT_S)
        ended = await builds.delete_ended_before(connection, time.time() - BUILDS_KEPT_S)
    versions = await retire_versions(layout, database, pins)
    files = await remove_unreferenced_uploads(layout, database)
    keep = layers_of_versions(layout) | pins.names()
    layer_count, layer_bytes = await asyncio.to_thread(layers.collect, layout, keep, unused_for_s=0)
    bases = await retire_versions(layout, database, pins)  # images whose layers have just gone
    cached = await asyncio.to_thread(_empty_cache, layout)
    logs = await _logs_of_nobody(layout, database)
    agents = await remove_old_agents(layout, database, agent_in_use)
    return Freed(
        removed={
            "snapshots": versions.snapshots,
            "images": versions.images + bases.images,
            "layers": layer_count,
            "uploads": files.uploads,
            "logs": logs,
            "builds": len(ended),
            "agents": agents.agents,
        },
        bytes=versions.bytes + bases.bytes + files.bytes + layer_bytes + cached + agents.bytes,
    )


def _empty_cache(layout: Layout) -> int:
    freed = layers.size_of(layout.cache)
    for entry in layout.cache.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return freed


async def _logs_of_nobody(layout: Layout, database: Database) -> int:
    async with database.read() as connection:
        alive = {str(template.id) for template in await templates.list_all(connection)}
    gone = [path for path in layout.logs.iterdir() if path.name.partition(".")[0] not in alive]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
