"""Removing what nobody refers to any more: template versions, images, layers, uploads, logs.

References are rows (templates, sandboxes, queued builds, uploads), manifests, and the pins of work under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawbox.guest.image import AGENT_IMAGES
from thawbox.node.layout import Layout
from thawbox.node.selftest import agent_that_passed
from thawbox.store import builds, sandboxes, templates, uploads
from thawbox.store.database import Database

YOUNG_S = 60
BASE_IMAGE = "base-{layer}.erofs"
"""Name of the EROFS image of a base image's layer; it goes when the layer goes."""


@dataclass(frozen=True, slots=True)
class Freed:
    """What a collection removed."""

    snapshots: int = 0
    images: int = 0
    layers: int = 0
    uploads: int = 0
    agents: int = 0
    bytes: int = 0


class Pins:
    """Names of versions, images and layers that work under way needs although nothing refers to them yet."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def holder(self) -> Iterator[Callable[[str], None]]:
        """Gives ``pin(name)``; all its pins go at the end of the block."""
        mine: list[str] = []

        def pin(name: str) -> None:
            mine.append(name)
            self._held[name] += 1

        try:
            yield pin
        finally:
            self._held.subtract(mine)
            self._held += Counter()  # drops zeros

    def names(self) -> set[str]:
        """Everything that is pinned now."""
        return set(self._held)

    def __contains__(self, name: str) -> bool:
        return name in self._held


async def retire_versions(layout: Layout, database: Database, pins: Pins, *, of: str | None = None) -> Freed:
    """Remove versions that no template and no sandbox boots from, and images that no version needs.

    Runs whenever a reference goes: a template was replaced or deleted, a sandbox ended. ``of`` is the version that
    was referred to, if only one was: nothing is looked at if others refer to it still.
    """
    async with database.read() as connection:
        wanted = await templates.snapshot_keys(connection)
        if of in wanted:
            return Freed()
        wanted |= await sandboxes.snapshot_keys(connection)
    # From here to the end without a pause, so that a pin that is taken meanwhile is seen.
    doomed = [
        folder
        for folder in layout.snapshots.iterdir()
        if folder.name not in wanted and folder.name not in pins
    ]
    for folder in doomed:
        (folder / "manifest.json").unlink(missing_ok=True)  # from here on nobody finds it
    needed = {manifest["image"] for manifest in _manifests(layout)}
    needed |= {BASE_IMAGE.format(layer=layer.name) for layer in layout.layers.iterdir()}
    images = [
        image for image in layout.images.iterdir() if image.name not in needed and image.name not in pins
    ]
    freed = sum(_size(path) for path in (*doomed, *images))
    for image in images:
        image.unlink()  # a sandbox that has it mapped keeps it until it ends
    for folder in doomed:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return Freed(snapshots=len(doomed), images=len(images), bytes=freed)


def layers_of_versions(layout: Layout) -> set[str]:
    """Ids of the layers that existing versions were made of."""
    return {layer for manifest in _manifests(layout) for layer in manifest["layers"]}


async def remove_unreferenced_uploads(layout: Layout, database: Database) -> Freed:
    """Remove uploaded files that neither an upload's row nor a waiting or running build names."""
    async with database.read() as connection:
        wanted = await uploads.blobs(connection)
        for build in await builds.with_status(connection, builds.QUEUED, builds.BUILDING):
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
    return Freed(uploads=len(doomed), bytes=freed)


async def remove_old_agents(layout: Layout, database: Database, in_use: str | None) -> Freed:
    """Remove images of agents that no version was frozen with and no sandbox has.

    Two stay besides: the one ``in_use`` by the server that runs, and the one that the next server will take.
    """
    next_one = agent_that_passed(layout)
    if next_one is None:  # nobody knows
        return Freed()
    async with database.read() as connection:
        wanted = {row.agent_image for row in await sandboxes.list_all(connection)}
    wanted |= {manifest["memory"]["agent_image"] for manifest in _manifests(layout) if manifest["memory"]}
    doomed = [
        image
        for image in layout.runtime.glob(AGENT_IMAGES)
        if image.name not in wanted and image.name not in (in_use, next_one)
    ]
    freed = sum(_size(path) for path in doomed)
    for path in doomed:
        path.unlink(missing_ok=True)
    return Freed(agents=len(doomed), bytes=freed)


def _manifests(layout: Layout) -> Iterator[dict[str, Any]]:
    for folder in layout.snapshots.iterdir():
        with contextlib.suppress(FileNotFoundError, ValueError):
            yield json.loads((folder / "manifest.json").read_text())


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_blocks * 512 for file in files if file.is_file())
