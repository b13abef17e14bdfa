"""A zoo of runtimes that are slow, die, refuse or lie: no sandbox that was answered is lost, nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.sandboxes import VERBS, Harness, close, make_harness
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
async def test_refuses(harness: Harness, verb: str, state: str, method: str) -> None:
    row = await harness.in_state(state)
    harness.runtime.trouble = refuses(method)
    with pytest.raises((RuntimeFault, InvalidState)):
        await VERBS[verb](harness.service, row)
    harness.runtime.trouble = refuses("nothing")
    await harness.check()
    now = await harness.row(row)
    if method == "thaw":
        assert now.status == "error"
        assert now.reason == "its memory on disk does not restore"
        await harness.crash()  # at the next start it gets another chance
        now = await harness.row(row)
        assert now.status == row.status
    await VERBS[verb](harness.service, now)
    await harness.check()


@pytest.mark.parametrize(("verb", "state", "method"), OPERATIONS)
async def test_deleted_in_the_middle(harness: Harness, verb: str, state: str, method: str) -> None:
    row = await harness.in_state(state)
    reached, go = asyncio.Event(), asyncio.Event()
    harness.runtime.trouble = waits(method, reached, go)
    operation = asyncio.create_task(VERBS[verb](harness.service, row))
    await reached.wait()
    await harness.service.delete(row)  # does not wait for it
    go.set()
    with pytest.raises(SandboxNotFound):
        await operation
    assert await harness.rows() == []
    await harness.check()


@pytest.mark.parametrize(("verb", "state", "method"), OPERATIONS)
async def test_server_killed_in_the_middle(harness: Harness, verb: str, state: str, method: str) -> None:
    row = await harness.in_state(state)
    reached, go = asyncio.Event(), asyncio.Event()
    harness.runtime.trouble = waits(method, reached, go)
    operation = asyncio.create_task(VERBS[verb](harness.service, row))
    await reached.wait()
    operation.cancel()
    harness.runtime.trouble = refuses("nothing")
    await harness.crash()
    go.set()
    await asyncio.gather(operation, return_exceptions=True)
    await harness.check()
    now = await harness.row(row)
    assert now.status in (row.status, "running")  # stop of a paused one is two steps
    if now.status == row.status:
        await VERBS[verb](harness.service, now)
    await harness.check()


@pytest.mark.parametrize(
    ("verb", "state", "method"), [o for o in OPERATIONS if o[1] in ("running", "paused")]
)
async def test_dies_in_the_middle(harness: Harness, verb: str, state: str, method: str) -> None:
    row = await harness.in_state(state)

    async def dies(called: str, name: str) -> None:
        if called == method:
            harness.runtime.kill(name)

    harness.runtime.trouble = dies
    with pytest.raises(InvalidState, match="has ended: its runtime process ended"):
        await VERBS[verb](harness.service, row)
    await harness.until_status(row, "error")
    await harness.service.delete(row)
    await harness.check()


async def test_frozen_one_dies(harness: Harness) -> None:
    row = await harness.in_state("paused")
    harness.runtime.kill(row.id)
    await harness.until_status(row, "error")
    assert (await harness.row(row)).reason == "its runtime process ended"
    await harness.service.delete(row)
    await harness.check()


async def test_a_checkpoint_that_is_not_there_frees_nothing(harness: Harness) -> None:
    row = await harness.in_state("paused")
    harness.runtime.lies = {"checkpoint"}
    await harness.settle()
    await harness.check()
    assert (await harness.row(row)).memory is None
    await harness.service.resume(row)
    with pytest.raises(RuntimeFault):
        await harness.service.stop_sandbox(row)
    assert harness.runtime.table[row.id].status == "running"
    await harness.check()


async def test_one_failed_thaw_is_tried_again(harness: Harness) -> None:
    row = await harness.in_state("on disk")
    harness.runtime.trouble = refuses("thaw", times=1)
    assert (await harness.service.resume(row)).status == "running"
    await harness.check()


@pytest.mark.parametrize("state", ["on disk", "stopped"])
async def test_another_build_of_the_runtime(harness: Harness, state: str) -> None:
    row = await harness.in_state(state)
    ours, harness.runtime.digest = harness.runtime.digest, "e" * 64
    await harness.crash()
    now = await harness.row(row)
    assert now.status == "error"
    assert "another build of the runtime" in (now.reason or "")
    with pytest.raises(InvalidState):
        await harness.service.resume(now)
    harness.runtime.digest = ours
    await harness.crash()
    now = await harness.row(row)
    assert (now.status, now.reason) == (row.status, None)
    await harness.check()


@pytest.mark.parametrize("state", ["running", "paused", "on disk", "stopped", "error"])
async def test_machine_restarted(harness: Harness, state: str) -> None:
    row = await harness.in_state(state)
    harness.runtime.table.clear()
    harness.runtime.slots.clear()
    await harness.crash()
    now = await harness.row(row)
    if state in ("on disk", "stopped"):
        assert now.status == row.status
    else:
        assert now.status == "error"
        if state != "error":
            assert now.reason == "lost while the server or the machine was down"
    await harness.check()


async def test_a_server_that_stops_puts_frozen_ones_on_disk(harness: Harness) -> None:
    row, running = await harness.in_state("paused"), await harness.in_state("running")
    assert await harness.service.stop() == 1
    assert (await harness.row(row)).memory is not None
    assert list(harness.runtime.table) == [running.id]


async def test_many_at_once(harness: Harness) -> None:
    row = await harness.create()
    verbs = [*VERBS.values()] * 5
    outcomes = await asyncio.gather(*(verb(harness.service, row) for verb in verbs), return_exceptions=True)
    assert all(isinstance(outcome, SandboxRow | InvalidState) for outcome in outcomes), outcomes
    await harness.check()
    await asyncio.gather(
        harness.service.delete(row),
        *(verb(harness.service, row) for verb in verbs),
        return_exceptions=True,
    )
    assert await harness.rows() == []
    await harness.check()


async def test_forks_all_or_none(harness: Harness) -> None:
    source = await harness.create()
    made = await harness.service.fork(source, 3, env={}, timeout_seconds=60)
    assert len({row.id for row in made} | {source.id}) == 4
    assert {harness.runtime.table[row.id].content for row in made} == {f"memory of {source.id}"}
    assert all(row.status == "running" and row.expires_at for row in made)
    calls = []

    async def fourth_fails(method: str, name: str) -> None:
        if method == "thaw":
            calls.append(name)
            if len(calls) == 4:
                raise RuntimeFault("no")

    harness.runtime.trouble = fourth_fails
    with pytest.raises(RuntimeFault):
        await harness.service.fork(source, 4, env={}, timeout_seconds=None)
    assert {row.id for row in await harness.rows()} == {source.id, *(row.id for row in made)}
    await harness.check()


@pytest.mark.parametrize(("state", "works"), [("paused", True), ("on disk", True), ("stopped", False)])
async def test_fork_of_one_that_does_not_run(harness: Harness, state: str, works: bool) -> None:
    source = await harness.in_state(state)
    if works:
        (made,) = await harness.service.fork(source, 1, env={}, timeout_seconds=None)
        assert harness.runtime.table[made.id].content == f"memory of {source.id}"
        assert (await harness.row(source)).status == "paused"
    else:
        with pytest.raises(InvalidState):
            await harness.service.fork(source, 1, env={}, timeout_seconds=None)
    await harness.check()


async def test_limit_counts_every_state_and_forks(tmp_path_factory: pytest.TempPathFactory) -> None:
    harness = await make_harness(tmp_path_factory.mktemp("limit") / "state", max_sandboxes=3)
    source = await harness.in_state("running")
    await harness.in_state("stopped")
    with pytest.raises(Forbidden) as raised:
        await harness.service.fork(source, 2, env={}, timeout_seconds=None)
    assert raised.value.details == {"limit": 3, "current": 2, "available": 1}
    await harness.service.fork(source, 1, env={}, timeout_seconds=None)
    with pytest.raises(Forbidden):
        await harness.create()
    await harness.check()
    await close(harness)


async def test_short_memory_moves_frozen_ones_and_then_refuses(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10_000]
    monkeypatch.setattr(capacity, "available_mb", lambda: free[0])
    harness = await make_harness(tmp_path_factory.mktemp("short") / "state")
    harness.settings = harness.settings.model_copy(update={"memory_reserve_mb": 256})
    await harness.crash()
    first, second = await harness.in_state("paused"), await harness.in_state("paused")

    async def frees(method: str, name: str) -> None:
        if method == "checkpoint":
            free[0] += 200

    harness.runtime.trouble = frees
    free[0] = 100
    await harness.create()  # the longest frozen had to make room
    assert (await harness.row(first)).memory is not None
    assert (await harness.row(second)).memory is None
    free[0] = -1000
    with pytest.raises(NoCapacity) as raised:
        await harness.create()
    assert (raised.value.status, raised.value.code) == (503, "NO_NODES_AVAILABLE")
    with pytest.raises(NoCapacity):
        await harness.service.resume(await harness.row(first))
    assert (await harness.row(first)).status == "paused"
    await harness.check()
    await close(harness)


async def test_pause_to_disk_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    harness = await make_harness(tmp_path_factory.mktemp("disk") / "state")
    harness.settings = harness.settings.model_copy(update={"pause_memory_s": 0})
    await harness.crash()
    row = await harness.create()
    assert (await harness.service.pause(row)).memory is not None
    assert harness.runtime.table == {}
    await harness.check()
    await close(harness)
