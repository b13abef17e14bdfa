"""A zoo of runtimes that are slow, die, refuse or lie: no sandbox that was answered is lost, nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.sandboxes import VERBS, House, leave, make_house
from thawbox.errors import Forbidden, InvalidState, NoCapacity, RuntimeFault, SandboxNotFound
from thawbox.sandboxes import capacity
from thawbox.store.sandboxes import SandboxRow

Trouble = Callable[[str, str], Awaitable[None]]
START = {"pause": "running", "resume": "paused", "stop": "running", "start": "stopped"}
OPERATIONS = [
    ("pause", "running", "freeze"),
    ("resume", "paused", "unfreeze"),
    ("resume", "on disk", "create"),
    ("resume", "on disk", "thaw"),
    ("stop", "running", "end_programs"),
    ("stop", "running", "checkpoint"),
    ("stop", "paused", "unfreeze"),
    ("stop", "on disk", "thaw"),
    ("start", "stopped", "create"),
    ("start", "stopped", "thaw"),
]


def refuses(method: str, *, times: int = 1_000) -> Trouble:
    left = [times]

    async def trouble(called: str, _name: str) -> None:
        if called == method and left[0]:
            left[0] -= 1
            raise RuntimeFault(f"{called}: no")

    return trouble


def waits(method: str, reached: asyncio.Event, go: asyncio.Event) -> Trouble:
    async def trouble(called: str, _name: str) -> None:
        if called == method:
            reached.set()
            await go.wait()

    return trouble


@pytest.mark.parametrize(("verb", "state", "method"), OPERATIONS)
async def test_refuses(house: House, verb: str, state: str, method: str) -> None:
    row = await house.in_state(state)
    house.runtime.trouble = refuses(method)
    with pytest.raises((RuntimeFault, InvalidState)):
        await VERBS[verb](house.service, row)
    house.runtime.trouble = refuses("nothing")
    await house.check()
    now = await house.row(row)
    if method == "thaw":
        assert now.status == "error"
        assert now.reason == "its memory on disk does not restore"
        await house.crash()  # at the next start it gets another chance
        now = await house.row(row)
        assert now.status == row.status
    await VERBS[verb](house.service, now)
    await house.check()


@pytest.mark.parametrize(("verb", "state", "method"), OPERATIONS)
async def test_deleted_in_the_middle(house: House, verb: str, state: str, method: str) -> None:
    row = await house.in_state(state)
    reached, go = asyncio.Event(), asyncio.Event()
    house.runtime.trouble = waits(method, reached, go)
    operation = asyncio.create_task(VERBS[verb](house.service, row))
    await reached.wait()
    await house.service.delete(row)  # does not wait for it
    go.set()
    with pytest.raises(SandboxNotFound):
        await operation
    assert await house.rows() == []
    await house.check()


@pytest.mark.parametrize(("verb", "state", "method"), OPERATIONS)
async def test_server_killed_in_the_middle(house: House, verb: str, state: str, method: str) -> None:
    row = await house.in_state(state)
    reached, go = asyncio.Event(), asyncio.Event()
    house.runtime.trouble = waits(method, reached, go)
    operation = asyncio.create_task(VERBS[verb](house.service, row))
    await reached.wait()
    operation.cancel()
    house.runtime.trouble = refuses("nothing")
    await house.crash()
    go.set()
    await asyncio.gather(operation, return_exceptions=True)
    await house.check()
    now = await house.row(row)
    assert now.status in (row.status, "running")  # stop of a paused one is two steps
    if now.status == row.status:
        await VERBS[verb](house.service, now)
    await house.check()


@pytest.mark.parametrize(
    ("verb", "state", "method"), [o for o in OPERATIONS if o[1] in ("running", "paused")]
)
async def test_dies_in_the_middle(house: House, verb: str, state: str, method: str) -> None:
    row = await house.in_state(state)

    async def dies(called: str, name: str) -> None:
        if called == method:
            house.runtime.kill(name)

    house.runtime.trouble = dies
    with pytest.raises(InvalidState, match="has ended: its runtime process ended"):
        await VERBS[verb](house.service, row)
    await house.until_status(row, "error")
    await house.service.delete(row)
    await house.check()


async def test_frozen_one_dies(house: House) -> None:
    row = await house.in_state("paused")
    house.runtime.kill(row.id)
    await house.until_status(row, "error")
    assert (await house.row(row)).reason == "its runtime process ended"
    await house.service.delete(row)
    await house.check()


async def test_a_checkpoint_that_is_not_there_frees_nothing(house: House) -> None:
    row = await house.in_state("paused")
    house.runtime.lies = {"checkpoint"}
    await house.settle()
    await house.check()
    assert (await house.row(row)).memory is None
    await house.service.resume(row)
    with pytest.raises(RuntimeFault):
        await house.service.stop_sandbox(row)
    assert house.runtime.table[row.id].status == "running"
    await house.check()


async def test_one_failed_thaw_is_tried_again(house: House) -> None:
    row = await house.in_state("on disk")
    house.runtime.trouble = refuses("thaw", times=1)
    assert (await house.service.resume(row)).status == "running"
    await house.check()


@pytest.mark.parametrize("state", ["on disk", "stopped"])
async def test_another_build_of_the_runtime(house: House, state: str) -> None:
    row = await house.in_state(state)
    ours, house.runtime.digest = house.runtime.digest, "e" * 64
    await house.crash()
    now = await house.row(row)
    assert now.status == "error"
    assert "another build of the runtime" in (now.reason or "")
    with pytest.raises(InvalidState):
        await house.service.resume(now)
    house.runtime.digest = ours
    await house.crash()
    now = await house.row(row)
    assert (now.status, now.reason) == (row.status, None)
    await house.check()


@pytest.mark.parametrize("state", ["running", "paused", "on disk", "stopped", "error"])
async def test_machine_restarted(house: House, state: str) -> None:
    row = await house.in_state(state)
    house.runtime.table.clear()
    house.runtime.slots.clear()
    await house.crash()
    now = await house.row(row)
    if state in ("on disk", "stopped"):
        assert now.status == row.status
    else:
        assert now.status == "error"
        if state != "error":
            assert now.reason == "lost while the server or the machine was down"
    await house.check()


async def test_a_server_that_stops_puts_frozen_ones_on_disk(house: House) -> None:
    row, running = await house.in_state("paused"), await house.in_state("running")
    assert await house.service.stop() == 1
    assert (await house.row(row)).memory is not None
    assert list(house.runtime.table) == [running.id]


async def test_many_at_once(house: House) -> None:
    row = await house.create()
    verbs = [*VERBS.values()] * 5
    outcomes = await asyncio.gather(*(verb(house.service, row) for verb in verbs), return_exceptions=True)
    assert all(isinstance(outcome, SandboxRow | InvalidState) for outcome in outcomes), outcomes
    await house.check()
    await asyncio.gather(
        house.service.delete(row),
        *(verb(house.service, row) for verb in verbs),
        return_exceptions=True,
    )
    assert await house.rows() == []
    await house.check()


async def test_forks_all_or_none(house: House) -> None:
    source = await house.create()
    made = await house.service.fork(source, 3, env={}, timeout_seconds=60)
    assert len({row.id for row in made} | {source.id}) == 4
    assert {house.runtime.table[row.id].content for row in made} == {f"memory of {source.id}"}
    assert all(row.status == "running" and row.expires_at for row in made)
    calls = []

    async def fourth_fails(method: str, name: str) -> None:
        if method == "thaw":
            calls.append(name)
            if len(calls) == 4:
                raise RuntimeFault("no")

    house.runtime.trouble = fourth_fails
    with pytest.raises(RuntimeFault):
        await house.service.fork(source, 4, env={}, timeout_seconds=None)
    assert {row.id for row in await house.rows()} == {source.id, *(row.id for row in made)}
    await house.check()


@pytest.mark.parametrize(("state", "works"), [("paused", True), ("on disk", True), ("stopped", False)])
async def test_fork_of_one_that_does_not_run(house: House, state: str, works: bool) -> None:
    source = await house.in_state(state)
    if works:
        (made,) = await house.service.fork(source, 1, env={}, timeout_seconds=None)
        assert house.runtime.table[made.id].content == f"memory of {source.id}"
        assert (await house.row(source)).status == "paused"
    else:
        with pytest.raises(InvalidState):
            await house.service.fork(source, 1, env={}, timeout_seconds=None)
    await house.check()


async def test_limit_counts_every_state_and_forks(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = await make_house(tmp_path_factory.mktemp("limit") / "state", max_sandboxes=3)
    source = await house.in_state("running")
    await house.in_state("stopped")
    with pytest.raises(Forbidden) as raised:
        await house.service.fork(source, 2, env={}, timeout_seconds=None)
    assert raised.value.details == {"limit": 3, "current": 2, "available": 1}
    await house.service.fork(source, 1, env={}, timeout_seconds=None)
    with pytest.raises(Forbidden):
        await house.create()
    await house.check()
    await leave(house)


async def test_short_memory_moves_frozen_ones_and_then_refuses(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10_000]
    monkeypatch.setattr(capacity, "available_mb", lambda: free[0])
    house = await make_house(tmp_path_factory.mktemp("short") / "state")
    house.settings = house.settings.model_copy(update={"memory_reserve_mb": 256})
    await house.crash()
    first, second = await house.in_state("paused"), await house.in_state("paused")

    async def frees(method: str, name: str) -> None:
        if method == "checkpoint":
            free[0] += 200

    house.runtime.trouble = frees
    free[0] = 100
    await house.create()  # the longest frozen had to make room
    assert (await house.row(first)).memory is not None
    assert (await house.row(second)).memory is None
    free[0] = -1000
    with pytest.raises(NoCapacity) as raised:
        await house.create()
    assert (raised.value.status, raised.value.code) == (503, "NO_NODES_AVAILABLE")
    with pytest.raises(NoCapacity):
        await house.service.resume(await house.row(first))
    assert (await house.row(first)).status == "paused"
    await house.check()
    await leave(house)


async def test_pause_to_disk_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = await make_house(tmp_path_factory.mktemp("disk") / "state")
    house.settings = house.settings.model_copy(update={"pause_memory_s": 0})
    await house.crash()
    row = await house.create()
    assert (await house.service.pause(row)).memory is not None
    assert house.runtime.table == {}
    await house.check()
    await leave(house)
