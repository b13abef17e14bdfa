"""What a sandbox takes when this much of it is there already: one at a time, many at once, right after a build."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thawbox.store.enums import BootPath

from . import claims, depth
from .claims import Claim
from .figures import Table, gather
from .server import Server

ALIAS = "bench-pools"
WARM_UP = 3
_SHELLS_ONLY_MB = 24
"""Enough for a shell, too little for a thawed sandbox."""
_PLENTY_MB = 16_384


@dataclass(frozen=True, slots=True)
class State:
    """What waits before each sample."""

    name: str
    ready: int = 0
    shells: int = 0

    @property
    def expected(self) -> BootPath:
        """The ``boot_path`` of a sandbox that finds this."""
        return BootPath.WARM if self.ready else BootPath.SHELL if self.shells else BootPath.CREATED

    @property
    def settings(self) -> Mapping[str, str]:
        """A server's, with which exactly that waits and nothing throttles the clients."""
        most = self.ready or int(self.shells > 0)
        return {
            "THAWBOX_POOL_MIN": str(most),
            "THAWBOX_POOL_MAX": str(most),
            "THAWBOX_POOL_SHELLS": str(self.shells),
            "THAWBOX_POOL_MEMORY_MB": str(_PLENTY_MB if self.ready else _SHELLS_ONLY_MB),
            "THAWBOX_REQUESTS_PER_MINUTE": "0",
        }


def recipe(mark: str = "none") -> dict[str, Any]:
    """The template; another ``mark`` makes another version of it."""
    return {
        "alias": ALIAS,
        "update": True,
        "cpu": 1,
        "memory": 512,
        "diskGB": 1,
        "steps": [
            {"type": "from", "image": "debian:12"},
            {"type": "env", "key": "BENCH_MARK", "value": mark},
        ],
    }


async def one_by_one(server: Server, state: State, count: int) -> tuple[Table, ...]:
    """Each sample finds ``state``; with it goes how long until that is so again after its create was answered."""
    results: list[Claim | Exception] = []
    refills: list[float] = []
    async with claims.client(server) as client:
        for number in range(WARM_UP + count):
            await depth.reached(server, ALIAS, ready=state.ready, shells=state.shells)
            began = time.perf_counter()
            result = await claims.tried(client, ALIAS)
            await depth.reached(server, ALIAS, ready=state.ready, shells=state.shells)
            if number < WARM_UP:
                continue
            results.append(result)
            if isinstance(result, Claim):
                refills.append((time.perf_counter() - began) * 1000 - result.created_ms)
    series = claims.series(state.name, results, expected=state.expected)
    if state.ready or state.shells:
        refill = gather(f"{state.name}: full again after create was answered", "ms", refills)
        series = (*series, refill)
    return (Table(title=f"one at a time, {state.name}", series=series),)


async def hurried(server: Server, state: State, count: int) -> tuple[Table, ...]:
    """One after the other without waiting for the pool: the next claim, while it fills up again."""
    async with claims.client(server) as client:
        await depth.reached(server, ALIAS, ready=state.ready, shells=state.shells)
        results = [await claims.tried(client, ALIAS) for _ in range(WARM_UP + count)][WARM_UP:]
    return (_any_way(f"the next claim at once, {state.name}", results),)


async def bursts(server: Server, state: State, sizes: Mapping[int, int]) -> tuple[Table, ...]:
    """For each size of burst that many bursts, each from a full pool, all sandboxes kept until the last answers."""
    tables = []
    async with claims.client(server) as client:
        for _ in range(WARM_UP):
            await claims.tried(client, ALIAS)
        for size, times in sizes.items():
            results: list[Claim | Exception] = []
            rates: list[float] = []
            for _ in range(times):
                await depth.reached(server, ALIAS, ready=state.ready, shells=state.shells)
                found, seconds = await client.burst(ALIAS, size)
                results += found
                rates.append(sum(isinstance(one, Claim) for one in found) / seconds)
            table = _any_way(f"{size} at once, pool of {state.ready}", results)
            rate = gather("sandboxes per second, until the last result", "1/s", rates)
            tables.append(Table(title=table.title, series=(*table.series, rate)))
    return tuple(tables)


def burst_sizes(at_once: Sequence[int], count: int) -> dict[int, int]:
    """How many bursts of each size give ``count`` sandboxes; five at least of more than one."""
    return {size: max(math.ceil(count / size), 5 if size > 1 else 1) for size in at_once}


async def crowd(server: Server, state: State, size: int, idle_s: float) -> tuple[Table, ...]:
    """One burst that is larger than the pool, then nobody until ``idle_s`` after it is full again.

    And the pool's depth all the while.
    """
    await depth.reached(server, ALIAS, ready=state.ready, shells=state.shells)
    async with depth.watched(server, ALIAS) as depths:
        tables = await bursts(server, state, {size: 1})
        took = await depth.reached(server, ALIAS, ready=state.ready, shells=state.shells)
        await asyncio.sleep(idle_s)
    refill = gather(f"{state.ready} ready again after the last delete", "s", [took])
    return (*tables, Table(title=f"after {size} at once", series=(refill,)), depths.table(f"{size} at once"))


async def after_builds(server: Server, count: int) -> tuple[Table, ...]:
    """A sandbox as soon as its template's new version is there."""
    results: list[Claim | Exception] = []
    async with claims.client(server) as client:
        for number in range(count):
            await asyncio.to_thread(server.build, recipe(f"{number}-{time.time_ns()}"))
            results.append(await claims.tried(client, ALIAS))
    return (_any_way("the first sandbox right after its template's build", results),)


def _any_way(title: str, results: Sequence[Claim | Exception]) -> Table:
    """Whichever way they were made, and then each way alone."""
    good = [one for one in results if isinstance(one, Claim)]
    failures = [one for one in results if isinstance(one, Exception)]
    ways = sorted({one.path for one in good})
    return Table(
        title=title,
        series=(
            gather("create answered", "ms", [one.created_ms for one in good]),
            gather("first result", "ms", [*(one.result_ms for one in good), *failures]),
            *(
                gather(f"first result, {way}", "ms", [one.result_ms for one in good if one.path == way])
                for way in ways
            ),
        ),
    )
