"""The state table (docs/reference/compatibility/sandboxes.md#states), row by row, and what happens on the way."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.sandboxes import VERBS, Harness
from thawbox.errors import InvalidState, SandboxEnded, SandboxNotFound, SandboxPaused, SandboxStopped
from thawbox.store import sandboxes

REFUSED = "refused"
TABLE = {
    #           pause     resume     stop       start
    "running": ("paused", "running", "stopped", "running"),
    "paused": ("paused", "running", "stopped", REFUSED),
    "on disk": ("paused", "running", "stopped", REFUSED),
    "stopped": (REFUSED, REFUSED, "stopped", "running"),
    "error": (REFUSED, REFUSED, REFUSED, REFUSED),
}
CASES = [
    (state, verb, outcome) for state, row in TABLE.items() for verb, outcome in zip(VERBS, row, strict=True)
]


@pytest.mark.parametrize(("state", "verb", "outcome"), CASES)
async def test_table(harness: Harness, state: str, verb: str, outcome: str) -> None:
    row = await harness.in_state(state)
    if outcome == REFUSED:
        with pytest.raises(InvalidState):
            await VERBS[verb](harness.service, row)
        assert (await harness.row(row)).status == row.status
    else:
        assert (await VERBS[verb](harness.service, row)).status == outcome
        assert (await harness.row(row)).status == outcome
    await harness.check()


@pytest.mark.parametrize("state", TABLE)
async def test_delete_and_expiry_in_every_state(harness: Harness, state: str) -> None:
    row, other = await harness.in_state(state), await harness.in_state(state)
    await harness.service.delete(row)
    with pytest.raises(SandboxNotFound):
        await harness.service.delete(row)
    async with harness.database.write() as c:
        await sandboxes.update(c, other.id, expires_at=time.time() - 1)
    await harness.service.delete_expired()
    assert await harness.rows() == []
    assert harness.runtime.table == {}
    await harness.check()


@pytest.mark.parametrize("verb", VERBS)
async def test_deleted_is_not_found(harness: Harness, verb: str) -> None:
    row = await harness.in_state({"resume": "paused", "start": "stopped"}.get(verb, "running"))
    await harness.service.delete(row)
    with pytest.raises(SandboxNotFound):
        await VERBS[verb](harness.service, row)


async def test_creating(harness: Harness) -> None:
    go = asyncio.Event()

    async def slow(method: str, _name: str) -> None:
        if method == "thaw":
            await go.wait()

    harness.runtime.trouble = slow
    creation = asyncio.create_task(harness.create())
    async with asyncio.timeout(10):
        while not harness.runtime.table:
            await asyncio.sleep(0)
    (row,) = await harness.rows()
    assert row.status == "creating"
    for verb in ("pause", "resume", "start"):
        with pytest.raises(InvalidState):
            await VERBS[verb](harness.service, row)
    stop = asyncio.create_task(harness.service.stop_sandbox(row))
    await asyncio.sleep(0)
    go.set()
    assert (await stop).status == "stopped"
    assert (await creation).id == row.id
    await harness.check()


async def test_memory_and_files_live_through_everything(harness: Harness) -> None:
    row = await harness.create()
    content = harness.runtime.table[row.id].content
    for _ in range(3):
        await harness.service.pause(row)
        await harness.settle()
        assert harness.runtime.table == {}
        row = await harness.row(row)
        await harness.service.resume(row)
    assert harness.runtime.table[row.id].programs == 3
    await harness.service.stop_sandbox(await harness.row(row))
    await harness.service.start_sandbox(await harness.row(row))
    assert harness.runtime.table[row.id].content == content
    assert harness.runtime.table[row.id].programs == 0


async def test_the_gateway_is_told_what_is_the_matter(harness: Harness) -> None:
    assert (await harness.service.endpoint(await harness.in_state("running"))).port == 7777
    for state, error, status, code in (
        ("paused", SandboxPaused, 503, "SANDBOX_PAUSED"),
        ("on disk", SandboxPaused, 503, "SANDBOX_PAUSED"),
        ("stopped", SandboxStopped, 409, "SANDBOX_STOPPED"),
        ("error", SandboxEnded, 409, "SANDBOX_ENDED"),
    ):
        with pytest.raises(error) as raised:
            await harness.service.endpoint(await harness.in_state(state))
        assert (raised.value.status, raised.value.code) == (status, code)
        assert raised.value.retry_after == (1 if state in ("paused", "on disk") else None)


async def test_events_tell_every_change(harness: Harness) -> None:
    gone: list[str] = []
    harness.events.on_deleted.append(gone.append)
    with harness.events.subscribe(1) as subscription, harness.events.subscribe(2) as stranger:
        row = await harness.create()
        await harness.service.pause(row)
        await harness.service.resume(row)
        await harness.service.delete(row)
        seen = []
        while (event := await subscription.next(0)) not in (None, "over"):
            assert not isinstance(event, str)
            assert event is not None
            seen.append((event.kind, event.row.status))
        assert seen == [
            ("created", "creating"),
            ("updated", "running"),
            ("updated", "paused"),
            ("updated", "running"),
            ("deleted", "running"),
        ]
        assert gone == [row.id]
        assert await stranger.next(0) is None
        harness.events.close()
        assert await stranger.next(10) == "over"
