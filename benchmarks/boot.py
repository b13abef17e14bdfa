"""From "I want a sandbox" to the result of its first command, beside what one would use instead.

http: POST /v1/sandboxes, then POST /commands/run `true`, no pool. node: the same work without server and HTTP, the
runtime's own floor. cold: the same image without a snapshot, until the agent has run `true`. runsc run: /bin/true
as the container's only program, until the container is gone.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from bench import claims, machine, options
from bench.figures import Aim, Report, Series, Table, gather, ratio
from bench.local import Laps, Local, opened
from bench.server import Server, running

from thawbox.store.enums import BootPath

WARM_UP = 3
LIMIT_MS = 180.0
RECIPE: dict[str, Any] = {
    "alias": "bench-boot",
    "update": True,
    "cpu": 2,
    "memory": 512,
    "diskGB": 1,
    "steps": [{"type": "from", "image": "debian:12"}],
}


@dataclass(frozen=True)
class Way:
    """One way to a first command."""

    name: str
    once: Callable[[], Awaitable[Laps]]
    results: dict[int, list[Laps | Exception]] = field(default_factory=dict)
    """concurrency -> what each attempt gave"""

    def series(self, concurrency: int, stage: str = "total", label: str | None = None) -> Series:
        """One stage's times at one concurrency."""
        results = self.results.get(concurrency, [])
        failures = [one for one in results if isinstance(one, Exception)] if stage == "total" else []
        times = [one[stage] for one in results if not isinstance(one, Exception) and stage in one]
        return gather(label or self.name, "ms", [*times, *failures])

    def stages(self, concurrency: int) -> list[str]:
        """The names of its stages, in order, without the whole."""
        good = [one for one in self.results.get(concurrency, []) if not isinstance(one, Exception)]
        return [stage for stage in dict.fromkeys(stage for one in good for stage in one) if stage != "total"]


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument(
        "-n", type=int, default=100, help="samples of each way at each concurrency (default 100)"
    )
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 2, 4], help="at once (default 1 2 4)"
    )
    arguments = options.parse(parser)
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        template_id, _ = server.build(RECIPE)
        ways = asyncio.run(_measure(server, template_id, arguments.n, arguments.concurrency))
    options.finish(_report(facts, ways, arguments.n, arguments.concurrency, arguments.url), arguments.json)


async def _measure(server: Server, template_id: str, n: int, concurrencies: list[int]) -> list[Way]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as client,
        opened(server, template_id) as local,
    ):
        ways = _ways(server, client, local)
        for way in ways:
            for _ in range(WARM_UP):
                await way.once()
        for concurrency in concurrencies:
            # Turn and turn about, so that whatever else the machine does meets all ways alike.
            for _ in range(math.ceil(n / concurrency)):
                for way in ways:
                    batch = await asyncio.gather(
                        *(way.once() for _ in range(concurrency)), return_exceptions=True
                    )
                    kept = way.results.setdefault(concurrency, [])
                    kept += [_sample(one) for one in batch]
        return ways


def _sample(result: Laps | BaseException) -> Laps | Exception:
    if isinstance(result, BaseException) and not isinstance(result, Exception):
        raise result
    return result


def _ways(server: Server, client: aiohttp.ClientSession, local: Local) -> list[Way]:
    async def over_http() -> Laps:
        return await _over_http(server, client)

    return [
        Way("http", over_http),
        Way("node", local.thaw),
        Way("cold", local.boot),
        Way("runsc run", local.runsc_run),
    ]


async def _over_http(server: Server, client: aiohttp.ClientSession) -> Laps:
    key = {"Authorization": f"Bearer {server.key}"}
    began = time.perf_counter()
    url = f"{server.url}/v1/sandboxes"
    status, made = await claims.answer(client.post(url, headers=key, json={"template_name": RECIPE["alias"]}))
    if status != 201:
        raise RuntimeError(f"create: {status} {made!r}")
    created = time.perf_counter()
    sandbox = json.loads(made)
    try:
        token = {"Authorization": f"Bearer {sandbox['auth_token']}"}
        status, ran = await claims.answer(
            client.post(f"{sandbox['public_host']}/commands/run", headers=token, json={"command": "true"})
        )
        ended = time.perf_counter()
        if status != 200 or json.loads(ran)["exit_code"] != 0:
            raise RuntimeError(f"command: {status} {ran!r}")
        if sandbox["boot_path"] == BootPath.COLD:
            raise RuntimeError("the sandbox was booted cold")
        noted = dict(sandbox["timings"] or {})
        noted.pop("total")
        create_ms = (created - began) * 1000
        command_ms = (ended - created) * 1000
        inside_ms = json.loads(ran)["execution_time"] * 1000
        return {
            "create": create_ms,
            **{f"create: {stage}": took for stage, took in noted.items()},
            "create: HTTP, key, rows, token": create_ms - sum(noted.values()),
            "command": command_ms,
            "command: inside": inside_ms,
            "command: HTTP, token, row": command_ms - inside_ms,
            "total": (ended - began) * 1000,
        }
    finally:
        await claims.answer(client.delete(f"{url}/{sandbox['id']}", headers=key))


def _report(
    facts: dict[str, Any], ways: list[Way], n: int, concurrencies: list[int], url: str | None
) -> Report:
    by_name = {way.name: way for way in ways}
    first = concurrencies[0]
    http = by_name["http"].series(first)
    ratios = [
        ratio(f"{name} / {other}, {at} at once", by_name[name].series(at), by_name[other].series(at))
        for at in concurrencies
        for name, other in (("http", "cold"), ("http", "runsc run"), ("http", "node"))
    ]
    tables = [
        Table(title=f"to the first command's result, {at} at once", series=tuple(w.series(at) for w in ways))
        for at in concurrencies
    ]
    tables += [
        Table(
            title=f"where the time of {way.name} goes, {first} at once",
            series=tuple(way.series(first, stage, stage) for stage in way.stages(first)),
        )
        for way in ways
        if len(way.stages(first)) > 1
    ]
    return Report(
        benchmark="boot",
        method=(
            "Template: debian:12, 2 cores, 512 MB. No pool: every sandbox is created and restored for its request. "
            "All ways take turns. Deleting is not counted, but over before the next sample of the same worker.",
            f"Warm-up: {WARM_UP} uncounted attempts of each way. Image and snapshot are in the page cache. "
            "HTTP connections are kept open.",
            "Percentiles are nearest-rank: with fewer than 100 samples p99 is the largest.",
            "The client shares the cores with server and sandboxes.",
        ),
        machine=facts,
        arguments={"n": n, "concurrency": concurrencies, "own server": url is None},
        ratios=tuple(ratios),
        aims=(
            Aim(
                what=f"create to first command's result, http, {first} at once",
                value=http.median,
                limit=LIMIT_MS,
                unit="ms",
            ),
        ),
        tables=tuple(tables),
    )


if __name__ == "__main__":
    main()
