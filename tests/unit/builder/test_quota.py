"""How many builds an organisation may ask for."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.database import open_database
from thawbox.builder import quota
from thawbox.errors import RateLimited
from thawbox.settings import load
from thawbox.store import builds, organizations, templates
from thawbox.store.database import Database

NOW = 1_000_000.0
SETTINGS = load(builds_per_hour=2, builds_per_day=4)


class Clock:
    """The time of day, for rows and quota alike."""

    now = NOW

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock.time)
    return clock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(load(state=tmp_path / "state"))
    yield opened
    await opened.close()


@pytest.fixture
async def organization(database: Database) -> int:
    async with database.write() as c:
        return (await organizations.create(c, "one")).id


async def ask(database: Database, organization: int, *, counts: bool = True) -> None:
    """One more build, if the quota allows it."""
    async with database.write() as c:
        await quota.check(c, SETTINGS, organization)
        template = await templates.create(
            c, organization_id=organization, name=secrets.token_hex(8), cpu=1, memory_mb=256, disk_gb=1
        )
        await builds.create(
            c, template_id=template.id, organization_id=organization, recipe={}, counts=counts
        )


async def test_an_hour_and_a_day_have_a_bound_each(
    database: Database, organization: int, clock: Clock
) -> None:
    await ask(database, organization)
    clock.now += 100
    await ask(database, organization)
    clock.now += 100
    with pytest.raises(RateLimited, match=r"2 template builds per hour.*THAWBOX_BUILDS_PER_HOUR") as hour:
        await ask(database, organization)
    assert hour.value.retry_after == 3600 - 200
    clock.now = NOW + 3600
    await ask(database, organization)
    clock.now = NOW + 3700
    await ask(database, organization)
    clock.now = NOW + 2 * 3600
    with pytest.raises(RateLimited, match="4 template builds per day") as day:
        await ask(database, organization)
    assert day.value.retry_after == 24 * 3600 - 2 * 3600
    clock.now = NOW + 24 * 3600
    await ask(database, organization)


async def test_another_organisation_and_builds_that_do_not_count_use_up_nothing(
    database: Database, organization: int, clock: Clock
) -> None:
    async with database.write() as c:
        other = (await organizations.create(c, "two")).id
    for _ in range(2):
        clock.now += 1
        await ask(database, other)
        await ask(database, organization, counts=False)
    await ask(database, organization)
    with pytest.raises(RateLimited):
        await ask(database, other)


async def test_zero_means_no_bound(database: Database, organization: int, clock: Clock) -> None:
    for _ in range(2):
        clock.now += 1
        await ask(database, organization)
    with pytest.raises(RateLimited):
        await ask(database, organization)
    async with database.write() as c:
        await quota.check(c, load(builds_per_hour=0, builds_per_day=0), organization)
