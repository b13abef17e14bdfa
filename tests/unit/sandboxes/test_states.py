"""The state table (contract D), row by row, and what happens on the way."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.sandboxes import VERBS, House
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
async def test_table(house: House, state: str, verb: str, outcome: str) -> None:
    row = await house.in_state(state)
    if outcome == REFUSED:
        with pytest.raises(InvalidState):
            await VERBS[verb](house.service, row)
        assert (await house.row(row)).status == row.status
    else:
        assert (await VERBS[verb](house.service, row)).status == outcome
        assert (await house.row(row)).status == outcome
    await house.check()


@pytest.mark.parametrize("state", TABLE)
async def test_delete_and_expiry_in_every_state(house: House, state: str) -> None:
    row, other = await house.in_state(state), await house.in_state(state)
    await house.service.delete(row)
    with pytest.raises(SandboxNotFound):
        await house.service.delete(row)
    async with house.database.write() as c:
        await sandboxes.update(c, other.id, expires_at=time.time() - 1)
    await house.service._delete_expired()
    assert await house.rows() == []
    assert house.runtime.table == {}
    await house.check()


@pytest.mark.parametrize("verb", VERBS)
async def test_deleted_is_not_found(house: House, verb: str) -> None:
    row = await house.in_state({"resume": "paused", "start": "stopped"}.get(verb, "running"))
    await house.service.delete(row)
    with pytest.raises(SandboxNotFound):
        await VERBS[verb](house.service, row)


async def test_creating(house: House) -> None:
    go = asyncio.Event()

    async def slow(method: str, _name: str) -> None:
        if method == "thaw":
            await go.wait()

    house.runtime.trouble = slow
    creation = asyncio.create_task(house.create())
    async with asyncio.timeout(10):
        while not house.runtime.table:
            await asyncio.sleep(0)
    (row,) = await house.rows()
    assert row.status == "creating"
    for verb in ("pause", "resume", "start"):
        with pytest.raises(InvalidState):
            await VERBS[verb](house.service, row)
    stop = asyncio.create_task(house.service.stop_sandbox(row))
    await asyncio.sleep(0)
    go.set()
    assert (await stop).status == "stopped"
    assert (await creation).id == row.id
    await house.check()


async def test_memory_and_files_live_through_everything(house: House) -> None:
    row = await house.create()
    content = house.runtime.table[row.id].content
    for _ in range(3):
        await house.service.pause(row)
        await house.settle()
        assert house.runtime.table == {}
        row = await house.row(row)
        await house.service.resume(row)
    assert house.runtime.table[row.id].programs == 3
    await house.service.stop_sandbox(await house.row(row))
    await house.service.start_sandbox(await house.row(row))
    assert house.runtime.table[row.id].content == content
    assert house.runtime.table[row.id].programs == 0


async def test_the_gateway_is_told_what_is_the_matter(house: House) -> None:
    assert (await house.service.endpoint(await house.in_state("running"))).port == 7777
    for state, error, status, code in (
        ("paused", SandboxPaused, 503, "SANDBOX_PAUSED"),
        ("on disk", SandboxPaused, 503, "SANDBOX_PAUSED"),
        ("stopped", SandboxStopped, 409, "SANDBOX_STOPPED"),
        ("error", SandboxEnded, 409, "SANDBOX_ENDED"),
    ):
        with pytest.raises(error) as raised:
            await house.service.endpoint(await house.in_state(state))
        assert (raised.value.status, raised.value.code) == (status, code)
        assert raised.value.retry_after == (1 if state in ("paused", "on disk") else None)


async def test_events_tell_every_change(house: House) -> None:
    gone: list[str] = []
    house.events.on_deleted.append(gone.append)
    with house.events.listen(1) as listener, house.events.listen(2) as stranger:
        row = await house.create()
        await house.service.pause(row)
        await house.service.resume(row)
        await house.service.delete(row)
        seen = []
        while (event := await listener.next(0)) not in (None, "over"):
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
        house.events.close()
        assert await stranger.next(10) == "over"
