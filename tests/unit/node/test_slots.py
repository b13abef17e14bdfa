"""Taking network slots and giving them back. The kernel's part is recorded."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from tests.support.node import FakeKernel
from thawbox.errors import NoCapacity
from thawbox.node import slots
from thawbox.node.slots import Network, Slots

NETWORK = Network("tbab12", ipaddress.IPv4Network("10.200.0.0/20"))
SMALL = Network("tbab12", ipaddress.IPv4Network("10.200.0.0/28"))  # four slots


def pool(network: Network = NETWORK, ahead: int = 0) -> Slots:
    return Slots(network, ahead=ahead)


async def test_every_slot_has_one_owner(kernel: FakeKernel) -> None:
    free = pool(ahead=2)
    await free.warm()
    taken = [slot.index for slot in await asyncio.gather(*(free.acquire() for _ in range(20)))]
    await free.close()
    assert len(set(taken)) == 20
    assert kernel.existing == set(taken)


async def test_a_slot_given_back_is_refreshed_and_used_again(kernel: FakeKernel) -> None:
    free = pool()
    slot = await free.acquire()
    await free.release(slot)
    assert await free.acquire() == slot
    assert kernel.calls == [("make", 0), ("refresh", 0)]


async def test_a_slot_that_cannot_be_refreshed_is_removed_and_made_anew(kernel: FakeKernel) -> None:
    free = pool()
    slot = await free.acquire()
    kernel.fail.add("refresh")
    await free.release(slot)
    assert await free.acquire() == slot
    assert kernel.calls == [("make", 0), ("refresh", 0), ("destroy", 0), ("make", 0)]


async def test_a_slot_is_given_back_once(kernel: FakeKernel) -> None:
    free = pool()
    slot = await free.acquire()
    await free.release(slot)
    with pytest.raises(AssertionError, match="released twice"):
        await free.release(slot)


async def test_all_in_use(kernel: FakeKernel) -> None:
    free = pool(SMALL)
    taken = [await free.acquire() for _ in range(4)]
    with pytest.raises(NoCapacity, match="all 4 network slots of this node are in use"):
        await free.acquire()
    await free.release(taken[2])
    assert await free.acquire() == taken[2]


async def test_a_slot_that_cannot_be_made_leaves_nothing(kernel: FakeKernel) -> None:
    free = pool(SMALL)
    kernel.fail.add("make")
    for _ in range(5):  # more often than there are slots: none is lost
        with pytest.raises(OSError, match="make"):
            await free.acquire()
    assert kernel.existing == set()
    kernel.fail.clear()
    assert (await free.acquire()).index == 0


async def test_the_slot_of_a_sandbox_that_survived_is_not_given_to_another(kernel: FakeKernel) -> None:
    free = pool()
    kept = free.adopt(1)
    assert [(await free.acquire()).index for _ in range(3)] == [0, 2, 3]
    await free.release(kept)
    assert (await free.acquire()).index == 1


async def test_some_are_kept_ready(kernel: FakeKernel) -> None:
    free = pool(ahead=2)
    await free.warm()
    assert kernel.existing == {0, 1}
    await free.acquire()
    async with asyncio.timeout(60):
        while len(kernel.existing) < 3:
            await asyncio.sleep(0)
    await free.close()
    assert kernel.existing == {0}  # free ones are removed at the end, used ones stay


def test_leftovers_are_all_but_those_in_use(kernel: FakeKernel) -> None:
    kernel.existing = {0, 3, 7}
    assert slots.remove_leftovers(NETWORK, {3, 5}) == 2
    assert kernel.existing == {3}
