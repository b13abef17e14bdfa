from __future__ import annotations

import asyncio

import pytest

from thawbox.util.keyed_lock import KeyedLock


async def test_blocks_with_one_key_run_in_order_and_those_with_another_at_once() -> None:
    locks = KeyedLock()
    order: list[int] = []
    go = asyncio.Event()

    async def block(number: int) -> None:
        async with locks.hold("a"):
            order.append(number)
            await go.wait()

    tasks = [asyncio.create_task(block(number)) for number in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert order == [0]
    async with asyncio.timeout(10), locks.hold("b"):
        assert locks.keys == {"a", "b"}
    assert locks.keys == {"a"}
    go.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert locks.keys == frozenset()


async def test_one_that_is_cancelled_while_it_waits_leaves_the_lock_to_the_others() -> None:
    locks = KeyedLock()
    entered: list[int] = []

    async def block(number: int) -> None:
        async with locks.hold("a"):
            entered.append(number)

    async with locks.hold("a"):
        tasks = [asyncio.create_task(block(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(tasks[0], tasks[2], return_exceptions=True)
        assert entered == []
        assert locks.keys == {"a"}
    await tasks[1]
    assert entered == [1]
    assert locks.keys == frozenset()


async def test_a_block_that_raises_gives_the_lock_back() -> None:
    locks = KeyedLock()
    with pytest.raises(ZeroDivisionError):
        async with locks.hold("a"):
            raise ZeroDivisionError
    assert locks.keys == frozenset()
    async with asyncio.timeout(10), locks.hold("a"):
        pass


async def test_key_stays_while_one_that_waits_is_waking_up() -> None:
    """A released lock is free for a moment before the next one wakes up; whoever comes then must not get another."""
    locks = KeyedLock()
    inside: list[int] = []

    async def again_and_again(number: int) -> None:
        for _ in range(3):
            async with locks.hold("a"):
                inside.append(number)
                assert inside == [number]
                await asyncio.sleep(0)
                inside.clear()

    async with asyncio.timeout(10):
        await asyncio.gather(*(again_and_again(number) for number in range(4)))
    assert locks.keys == frozenset()
