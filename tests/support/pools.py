"""What the tests of pools do and look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from thawbox.snapshots import manifest as versions
from thawbox.store import templates
from thawbox.store.sandboxes import SandboxRow

from .sandboxes import KEY, House

OTHER_KEY = "b" * 64


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def filled(house: House) -> None:
    """Return when the pools have all that they should have."""
    pools = house.service.pools
    await pools.look()

    def full() -> bool:
        return bool(pools._pools) and not any(pool.lacks() for pool in pools._pools.values())

    await until(full)


def waiting(house: House) -> set[str]:
    """Containers in pools."""
    pools = house.service.pools._pools.values()
    return {container.id for pool in pools for container in (*pool.ready, *pool.shells)}


def ready(house: House) -> set[str]:
    return {container.id for pool in house.service.pools._pools.values() for container in pool.ready}


async def create(house: House, *, internet_access: bool = True) -> SandboxRow:
    return await house.service.create(
        1, house.template, env={}, timeout_seconds=None, internet_access=internet_access, live=True
    )


async def update(house: House) -> None:
    """The template has another version, as after a build with update."""
    old = versions.load(house.runtime.layout, KEY)
    assert old is not None
    memory = house.runtime.layout.snapshots / OTHER_KEY / "memory"
    memory.mkdir(parents=True)
    (memory / "pages.img").write_text("updated\n1")
    versions.save(house.runtime.layout, replace(old, key=OTHER_KEY))
    async with house.database.write() as c:
        await templates.update(c, house.template.id, snapshot_key=OTHER_KEY)
        found = await templates.get(c, house.template.id)
    assert found is not None
    house.template = found
