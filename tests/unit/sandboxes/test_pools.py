"""What waits in pools: made by demand, handed out once, discarded when dead, out of date or too much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.pools import OTHER_KEY, create, filled, ready, until, update, waiting
from tests.support.sandboxes import KEY, Harness, close, make_harness
from thawbox.errors import Forbidden, RuntimeFault
from thawbox.sandboxes import capacity
from thawbox.sandboxes.pools import misses
from thawbox.snapshots import manifest as versions


@pytest.fixture
async def pooled(tmp_path: Path) -> AsyncIterator[Harness]:
    """A harness where two wait ready, and one shell."""
    made = await make_harness(tmp_path / "state", pool_min=2, pool_max=4, pool_shells=1)
    await filled(made)
    yield made
    await close(made)


async def test_one_that_waited_is_handed_over_and_replaced(pooled: Harness) -> None:
    before = ready(pooled)
    row = await create(pooled)
    assert row.boot_path == "warm"
    assert row.id in before
    assert row.status == "running"
    assert row.timings is not None
    assert row.timings["total"] >= 0
    await filled(pooled)
    assert row.id not in waiting(pooled)
    assert len(ready(pooled)) >= 2
    assert set(pooled.runtime.table) == waiting(pooled) | {row.id}


async def test_who_finds_none_gets_a_shell_then_a_new_one(tmp_path: Path) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=1, pool_max=1, pool_shells=1)
    await filled(harness)
    rows = await asyncio.gather(*(create(harness) for _ in range(4)))
    assert Counter(row.boot_path for row in rows) == {"warm": 1, "shell": 1, "created": 2}
    await filled(harness)
    (figures,) = harness.service.pools.figures()
    assert (figures["template"], figures["hits"], figures["misses"]) == ("t", 1, 3)
    assert (figures["ready"], figures["shells"]) == (1, 1)
    await close(harness)


async def test_dead_one_is_never_handed_over(pooled: Harness) -> None:
    dead = ready(pooled)
    for name in dead:
        pooled.runtime.kill(name)
    assert [pool["ready"] for pool in pooled.service.pools.figures()] == [0]
    row = await create(pooled)
    assert row.id not in dead
    await filled(pooled)
    assert not dead & set(pooled.runtime.table)
    assert len(ready(pooled)) >= 2


async def test_one_that_does_not_answer_gives_way_to_the_next(pooled: Harness) -> None:
    deaf = sorted(ready(pooled))[0]

    async def trouble(method: str, container: str) -> None:
        if (method, container) == ("greet", deaf):
            raise RuntimeFault("no answer")

    pooled.runtime.trouble = trouble
    names = {(await create(pooled)).id for _ in range(2)}
    assert deaf not in names
    assert deaf not in pooled.runtime.table


async def test_who_wants_no_internet_gets_one_that_never_ran_with_it(pooled: Harness) -> None:
    cut: list[str] = []

    async def trouble(method: str, container: str) -> None:
        if method == "cut_off":
            cut.append(container)

    pooled.runtime.trouble = trouble
    row = await create(pooled, internet_access=False)
    assert row.boot_path == "shell"
    assert cut == [row.id]


async def test_template_that_was_updated_hands_out_its_new_version_alone(pooled: Harness) -> None:
    asked_before = pooled.template
    await update(pooled)
    old = waiting(pooled)
    new_template, pooled.template = pooled.template, asked_before
    row = await create(pooled)  # the request had read the template before the update
    assert (row.snapshot_key, row.boot_path) == (OTHER_KEY, "created")
    pooled.template = new_template
    await filled(pooled)
    assert not old & set(pooled.runtime.table)
    row = await create(pooled)
    assert (row.snapshot_key, row.boot_path) == (OTHER_KEY, "warm")


async def test_first_of_a_new_version_is_there_before_it_is_published(tmp_path: Path) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=0, pool_max=1, pool_shells=0)
    version = versions.load(harness.runtime.layout, KEY)
    assert version is not None
    await harness.service.pools.prepare(version, "t")
    assert (await create(harness)).boot_path == "warm"
    await close(harness)


async def test_version_that_does_not_thaw_holds_up_neither_its_build_nor_the_others(tmp_path: Path) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=1, pool_max=1, pool_shells=0)

    async def trouble(method: str, _container: str) -> None:
        if method == "thaw":
            raise RuntimeFault("does not thaw")

    harness.runtime.trouble = trouble
    version = versions.load(harness.runtime.layout, KEY)
    assert version is not None
    await harness.service.pools.prepare(version, "t")
    assert harness.runtime.table == {}
    (figures,) = harness.service.pools.figures()
    assert (figures["ready"], figures["ready_target"]) == (0, 1)
    await close(harness)


async def test_unused_templates_cool_down_to_nothing(tmp_path: Path) -> None:
    now = 1000.0
    harness = await make_harness(tmp_path / "state", clock=lambda: now, pool_min=0, pool_max=4, pool_shells=1)
    pools = harness.service.pools
    await pools.refresh()
    assert waiting(harness) == set()
    row = await create(harness)
    await filled(harness)
    assert len(ready(harness)) == 1
    await harness.service.delete(row)
    now += 3600
    await pools.refresh()
    await until(lambda: not harness.runtime.table)
    await close(harness)


async def test_short_memory_stops_refills_and_takes_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await make_harness(
        tmp_path / "state", pool_min=2, pool_max=2, pool_shells=0, memory_reserve_mb=100
    )
    await filled(harness)
    free = 50

    def available_mb() -> int:
        return free + (100 if not waiting(harness) else 0)

    monkeypatch.setattr(capacity, "available_mb", available_mb)
    row = await create(harness)  # one that waits needs no more memory
    assert row.boot_path == "warm"
    await harness.service.pools.refresh()
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(waiting(harness)) == 1
    await create(harness)
    row = await create(harness)
    assert row.boot_path == "created"
    free = -100
    await harness.service.pools.refresh()
    for _ in range(200):
        await asyncio.sleep(0)
    assert waiting(harness) == set()
    free = 500
    await filled(harness)
    assert len(waiting(harness)) == 2
    await close(harness)


async def test_limit_of_sandboxes_leaves_the_pool_alone(tmp_path: Path) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=1, pool_max=1, pool_shells=1, max_sandboxes=1)
    await create(harness)
    await filled(harness)
    before = waiting(harness)
    with pytest.raises(Forbidden):
        await create(harness)
    assert waiting(harness) == before
    await close(harness)


async def test_nothing_is_made_while_somebody_waits(pooled: Harness) -> None:
    made: list[str] = []
    asking = asyncio.Event()
    go_on = asyncio.Event()

    async def trouble(method: str, container: str) -> None:
        if method == "create":
            made.append(container)
        if method == "thaw":
            asking.set()
            await go_on.wait()

    await create(pooled)
    await create(pooled)  # none is ready now, and no task had a turn to make one
    pooled.runtime.trouble = trouble
    request = asyncio.create_task(create(pooled))
    await asking.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(made) <= 1  # the one that the request itself needs
    go_on.set()
    await request
    await filled(pooled)


async def test_stop_and_crash_leave_no_container_behind(tmp_path: Path) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=2, pool_max=2, pool_shells=1)
    await filled(harness)
    row = await create(harness)
    await filled(harness)
    lost = waiting(harness)
    await harness.crash()
    assert not lost & set(harness.runtime.table)
    assert row.id in harness.runtime.table
    await filled(harness)
    await close(harness)
    assert set(harness.runtime.table) == {row.id}


async def test_client_that_goes_away_in_the_middle_leaks_nothing(pooled: Harness) -> None:
    entered = asyncio.Event()
    waited = ready(pooled)

    async def trouble(method: str, container: str) -> None:
        if method == "greet" and container in waited:
            entered.set()
            await asyncio.sleep(3600)

    pooled.runtime.trouble = trouble
    request = asyncio.create_task(create(pooled))
    await entered.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)

    async def no_trouble(_method: str, _container: str) -> None: ...

    pooled.runtime.trouble = no_trouble
    await filled(pooled)
    assert set(pooled.runtime.table) == waiting(pooled)
    assert await pooled.rows() == []


async def test_template_that_keeps_missing_is_logged_once_with_the_setting_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=0, pool_max=1, pool_shells=0)
    logged: list[dict[str, object]] = []
    monkeypatch.setattr(
        misses.log, "warning", lambda event, **fields: logged.append({"event": event, **fields})
    )
    await harness.service.pools.refresh()
    await asyncio.gather(*(create(harness) for _ in range(8)))
    (line,) = (line for line in logged if line["event"] == "pool_misses")
    assert (line["template"], line["misses"]) == ("t", misses.WARN_AFTER_MISSES)
    assert "THAWBOX_POOL_MAX" in str(line["remedy"])
    await close(harness)


async def test_clients_that_go_away_while_they_queue_leave_no_shell(tmp_path: Path) -> None:
    harness = await make_harness(tmp_path / "state", pool_min=1, pool_max=1, pool_shells=30)
    await filled(harness)
    shells = waiting(harness) - ready(harness)
    stuck, gate = asyncio.Event(), asyncio.Event()

    async def trouble(method: str, container: str) -> None:
        if method == "thaw":  # also the one that replaces what the first request takes
            if container in shells:
                stuck.set()
            await gate.wait()

    harness.runtime.trouble = trouble
    first = await create(harness)
    requests = [asyncio.create_task(create(harness)) for _ in range(20)]  # more than may start at once
    await stuck.wait()
    for request in requests:
        request.cancel()
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert [row.id for row in await harness.rows()] == [first.id]
    gate.set()
    await filled(harness)
    assert set(harness.runtime.table) == waiting(harness) | {first.id}
    await close(harness)
