"""What the tests of pools do and look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from thawbox.snapshots import manifest as versions
from thawbox.store import templates
from thawbox.store.sandboxes import SandboxRow

from .sandboxes import KEY, Harness

OTHER_KEY = "b" * 64


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def filled(harness: Harness) -> None:
    """Return when the pools have all that they should have."""
    pools = harness.service.pools
    await pools.refresh()

    def full() -> bool:
        return bool(pools.by_version) and not any(pool.lacks() for pool in pools.by_version.values())

    await until(full)


def waiting(harness: Harness) -> set[str]:
    """Containers in pools."""
    pools = harness.service.pools.by_version.values()
    return {container.id for pool in pools for container in (*pool.ready, *pool.shells)}


def ready(harness: Harness) -> set[str]:
    return {container.id for pool in harness.service.pools.by_version.values() for container in pool.ready}


async def create(harness: Harness, *, internet_access: bool = True) -> SandboxRow:
    return await harness.service.create(
        1, harness.template, env={}, timeout_seconds=None, internet_access=internet_access, live=True
    )


async def update(harness: Harness) -> None:
    """The template has another version, as after a build with update."""
    old = versions.load(harness.runtime.layout, KEY)
    assert old is not None
    memory = harness.runtime.layout.snapshots / OTHER_KEY / "memory"
    memory.mkdir(parents=True)
    (memory / "pages.img").write_text("updated\n1")
    versions.save(harness.runtime.layout, replace(old, key=OTHER_KEY))
    async with harness.database.write() as c:
        await templates.update(c, harness.template.id, snapshot_key=OTHER_KEY)
        found = await templates.get(c, harness.template.id)
    assert found is not None
    harness.template = found
