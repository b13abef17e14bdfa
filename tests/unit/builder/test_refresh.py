"""Snapshots after a change of runsc."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.database import open_database
from thawbox.builder.refresh import refresh_snapshots
from thawbox.snapshots import manifest
from thawbox.snapshots.manifest import Version
from thawbox.store import organizations, templates
from thawbox.store.database import Database
from thawbox.templates.recipe import Recipe
from thawbox.util.keyed_lock import KeyedLock

from .conftest import Workshop

NEW = "e" * 64


@pytest.fixture
async def database(workshop: Workshop) -> AsyncIterator[Database]:
    opened = await open_database(workshop.settings)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start command that fails does so at once."""
    monkeypatch.setattr("thawbox.snapshots.start._GRACE_S", 0)


async def published(workshop: Workshop, database: Database) -> list[Version]:
    """Three versions that templates have, in the order in which they are looked at; the first is of a sandbox."""
    built = [
        await workshop.build(
            workshop.job(Recipe(name="t", base_image="debian", start_cmd=command, cpu=1, memory_mb=256))
        )
        for command in ("one", "two")
    ]
    saved = replace(built[0], key="0 saved", from_sandbox=True)
    manifest.save(workshop.layout, saved)
    versions = sorted([saved, *built], key=lambda version: version.key)
    async with database.write() as c:
        organization = await organizations.create(c, "one")
        for version in versions:
            made = await templates.create(
                c, organization_id=organization.id, name=version.key, cpu=1, memory_mb=256, disk_gb=1
            )
            await templates.update(c, made.id, snapshot_key=version.key)
    workshop.agents.calls.clear()
    return versions


async def refresh(workshop: Workshop, database: Database) -> list[Version | None]:
    await refresh_snapshots(workshop.runtime, database, workshop.pins, KeyedLock().hold)
    workshop.check_nothing_is_left()
    assert workshop.pins.names() == set()
    async with database.read() as c:
        return [manifest.load(workshop.layout, key) for key in sorted(await templates.snapshot_keys(c))]


async def test_what_can_be_made_again_is(workshop: Workshop, database: Database) -> None:
    saved, *built = await published(workshop, database)
    workshop.runtime.digest = NEW
    after = await refresh(workshop, database)
    assert after[0] == saved
    for old, new in zip(built, after[1:], strict=True):
        assert new is not None
        assert new.thaws_with(NEW)
        assert new.snapshot != old.snapshot
        assert replace(new, snapshot=None) == replace(old, snapshot=None)


async def test_what_fits_stays_as_it_is(workshop: Workshop, database: Database) -> None:
    versions = await published(workshop, database)
    assert await refresh(workshop, database) == versions
    assert workshop.agents.calls == []


async def test_one_that_fails_does_not_stop_the_others(
    workshop: Workshop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, second = await published(workshop, database)
    workshop.runtime.digest = NEW
    start = workshop.agents.start

    async def start_or_fail(*arguments: object, shell: str, **options: object) -> int:
        workshop.agents.start_status = 1 if shell == first.start_cmd else None
        return await start(*arguments, shell=shell, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("thawbox.guest.start", start_or_fail)
    after = await refresh(workshop, database)
    assert after[1] == first
    assert after[2] is not None
    assert after[2].thaws_with(NEW)
    assert after[2].key == second.key
