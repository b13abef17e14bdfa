"""Sandboxes that wait ready: create answered, and create to first command's result, by what waits; beside rivals.

One ready; a shell only; nothing; many at once; create and delete without end; right after a build. Each state of
the pool is a server of the benchmark's own, started with settings that make it so. The client is another process.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from bench import machine, options, pooled, soak, usage
from bench.depth import NeverThere
from bench.figures import Ratio, Report, Series, Table, gather, ratio
from bench.pooled import ALIAS, State
from bench.published import STARTS
from bench.server import BuildFailed, Server, running
from rivals import comparison

from thawbox.node import installed
from thawbox.snapshots import layers

STATE_FOLDER = Path("/var/tmp/thawbox-bench-pools")
"""Of its own: the floor of the pools holds for every template that there is."""
AT_ONCE = (1, 2, 4, 8, 20)
NOTHING = State("nothing ready")
SHELL = State("a shell ready", shells=1)
ONE = State("one ready", ready=1)
MANY = State("20 ready", ready=20)
DEMAND = {
    "THAWBOX_POOL_MIN": "0",
    "THAWBOX_POOL_HALF_LIFE_S": "1",
    "THAWBOX_REQUESTS_PER_MINUTE": "0",
}
"""Pools by demand alone, that forget quickly, so that they are empty soon after the last request."""
CROWD_IDLE_S = 5.0

Part = Callable[[Server], Coroutine[Any, Any, tuple[Table, ...]]]


class Run:
    """The parts one after the other, and the processor time that each took of the whole machine."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.tables: list[Table] = []
        self.cpu: list[Series] = []

    def measure(self, name: str, settings: Mapping[str, str], part: Part) -> None:
        """On a new server with ``settings``."""
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        with running(self._state, None, settings) as server:
            before, began = usage.cpu_s(), time.monotonic()
            try:
                self.tables += asyncio.run(part(server))
            except (NeverThere, BuildFailed) as error:  # the other parts are worth something without it
                self.tables.append(Table(title=name, series=(gather("all of it", "", [error]),)))
            busy = usage.cpu_s() - before
            note = f"of {time.monotonic() - began:.0f} s"
            self.cpu.append(gather(name, "CPU s", [busy], note=note))


def main() -> None:
    """Entry point."""
    given = _arguments()
    n = given.n
    run = Run(given.state)
    with running(given.state, None, NOTHING.settings) as server:
        facts = machine.facts(server.settings)
        server.build(pooled.recipe())
    sizes = pooled.burst_sizes(AT_ONCE, max(1, n // 2))
    run.measure(ONE.name, ONE.settings, lambda s: pooled.one_by_one(s, ONE, n))
    run.measure(SHELL.name, SHELL.settings, lambda s: pooled.one_by_one(s, SHELL, n))
    run.measure(NOTHING.name, NOTHING.settings, lambda s: pooled.one_by_one(s, NOTHING, n))
    run.measure("without waiting", ONE.settings, lambda s: pooled.hurried(s, ONE, n))
    run.measure("many at once", MANY.settings, lambda s: pooled.bursts(s, MANY, sizes))
    run.measure("the crowd", MANY.settings, lambda s: pooled.crowd(s, MANY, given.crowd, CROWD_IDLE_S))
    run.measure("after a build", ONE.settings, lambda s: pooled.after_builds(s, given.builds))
    run.measure("soak", DEMAND, lambda s: soak.tables(s, ALIAS, given.soak))
    if given.rivals:
        run.measure("rivals", NOTHING.settings, lambda s: _rivals(s, given.rivals))
    options.finish(_report(facts, run, given), given.json)


def _arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.set_defaults(state=STATE_FOLDER)
    parser.add_argument("-n", type=int, default=100, help="samples of each state of the pool (default 100)")
    parser.add_argument("--crowd", type=int, default=200, help="sandboxes in the largest burst (default 200)")
    parser.add_argument("--soak", type=float, default=60, help="seconds of create and delete (default 60)")
    parser.add_argument("--builds", type=int, default=5, help="builds with a sandbox right after (default 5)")
    parser.add_argument(
        "--rivals", type=int, default=20, metavar="N", help="samples of each; 0: none (default 20)"
    )
    given = options.parse(parser)
    if given.url is not None:
        parser.error("--url cannot be: what waits is set by starting servers")
    if min(given.n, given.crowd, given.builds, given.soak) <= 0 or given.rivals < 0:
        parser.error("-n, --crowd, --soak and --builds must be above 0, --rivals not below")
    return given


async def _rivals(server: Server, count: int) -> tuple[Table, ...]:
    """The rest of the machine is still: the server has nothing to do."""
    series = await asyncio.to_thread(
        comparison.compared,
        _base_tree(server),
        installed.installed_runsc(server.settings),
        count,
        server.layout.state.parent,
    )
    return (Table(title="what else one would use: to the result of `true`, one at a time", series=series),)


def _base_tree(server: Server) -> Path:
    """debian:12's files, as the template's build unpacked them."""
    found = []
    for folder in server.layout.layers.iterdir():
        layer = layers.get(server.layout, folder.name)
        if layer is not None and (layer.tree / "bin/true").exists():
            found.append((layer.about["made_at"], layer.tree))
    return Path(max(found)[1])


def _report(facts: dict[str, Any], run: Run, given: argparse.Namespace) -> Report:
    tables = run.tables
    waited = {state.name: _first_result(tables, state) for state in (ONE, SHELL, NOTHING)}
    one = waited[ONE.name]
    ratios = [
        ratio(f"{name} / one ready", series, one) for name, series in waited.items() if series is not one
    ]
    for table in tables:
        if table.title.startswith("what else"):
            ratios += [
                ratio(f"{rival.name} / one ready", rival, one) for rival in table.series if rival.values
            ]
    return Report(
        benchmark="pools",
        method=(
            "Template: debian:12, 1 core, 512 MB. Client: another process, over HTTP on loopback, connections kept "
            "open; each sample is POST /v1/sandboxes, POST /commands/run `true`, DELETE. It shares the cores.",
            "Before each sample the pool is waited for until it is full again (except: without waiting, the soak). "
            "What waits is set by starting a server with those settings. A sandbox that was made another way than "
            "the pool's state says is not among the samples, but in a row of its own.",
            "Warm: handed over ready. Shell: restored into a container that waits. Created: made from nothing.",
            f"Warm-up: {pooled.WARM_UP} of each state, 5 s of the soak, 1 of each rival. Image and snapshot are in "
            "the page cache. Percentiles are nearest-rank.",
            "Rivals: the same machine, no server, no network; cleaning up is not counted. crun is no sandbox.",
            "CPU is user, system and interrupts of the whole machine (/proc/stat), the client's included.",
        ),
        machine=facts,
        arguments={name: str(value) for name, value in vars(given).items() if name not in ("json", "url")},
        ratios=tuple(one for one in ratios if _is_number(one)),
        aims=(),
        tables=(*tables, Table(title="CPU of the whole machine", series=tuple(run.cpu))),
        published=STARTS,
    )


def _first_result(tables: list[Table], state: State) -> Series:
    """Of those that found ``state``; an empty series if there is none."""
    name = f"{state.name}: first result"
    found = (series for table in tables for series in table.series if series.name == name)
    return next(found, gather(name, "ms", []))


def _is_number(one: Ratio) -> bool:
    return one.value == one.value


if __name__ == "__main__":
    main()
