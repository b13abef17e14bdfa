"""Create and delete without end: how many per second, and whether the server keeps anything of it."""

from __future__ import annotations

import asyncio
import time

from . import claims, depth, usage
from .claims import Claim, Client
from .figures import Series, Table, gather
from .server import Server

CLIENTS = 4
_WARM_UP_S = 5.0


async def tables(server: Server, template: str, seconds: float) -> tuple[Table, ...]:
    """Four clients, each one sandbox after the other; and the pool before, during, and until it is empty again.

    The server must want nothing ready while nobody asks: what it holds is looked at with empty pools, once after a
    warm-up of five seconds and once after the run.
    """
    async with claims.client(server) as client:
        await _run(client, template, _WARM_UP_S)
        await depth.forgotten(server, template)
        before = await asyncio.to_thread(usage.settled, server)
        async with depth.watched(server, template) as depths:
            results, took = await _run(client, template, seconds)
            await depth.forgotten(server, template)
        after = await asyncio.to_thread(usage.settled, server)
    good = [one for one in results if isinstance(one, Claim)]
    failures = [one for one in results if isinstance(one, Exception)]
    title = f"create, `true`, delete; {CLIENTS} clients, {took:.0f} s"
    paths = sorted({one.path for one in good})
    return (
        Table(
            title=title,
            series=(
                gather("per second", "1/s", [len(good) / took]),
                gather("first result", "ms", [*(one.result_ms for one in good), *failures]),
                *(_of_path(good, path) for path in paths),
            ),
        ),
        Table(
            title=f"what the server holds before and after (min and max of the two), {title}",
            series=tuple(
                gather(name, "", [before[name], after[name]], note=f"{before[name]:g} -> {after[name]:g}")
                for name in before
            ),
        ),
        depths.table(title),
    )


async def _run(client: Client, template: str, seconds: float) -> tuple[list[Claim | Exception], float]:
    began = time.perf_counter()

    async def one_after_the_other() -> list[Claim | Exception]:
        results = []
        while time.perf_counter() - began < seconds:
            results.append(await claims.tried(client, template))
        return results

    lists = await asyncio.gather(*(one_after_the_other() for _ in range(CLIENTS)))
    return [one for results in lists for one in results], time.perf_counter() - began


def _of_path(good: list[Claim], path: str) -> Series:
    return gather(f"first result, {path}", "ms", [one.result_ms for one in good if one.path == path])
