"""Builds, beside the same commands in a plain chroot on the same base tree.

pip: python:3.11, RUN pip install numpy pandas. apt: debian:12, apt step git build-essential. Both from the request
to `active`, all phases, steps forced to run. Then the unchanged recipe again, and a recipe of five steps whose last
one changed.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench import chroot, machine, options
from bench.figures import Aim, Ratio, Report, Series, Table, gather, ratio
from bench.server import BuildFailed, Server, newest_build, running

from thawbox.builder.host_environment import step_environment
from thawbox.builder.timings import BuildTimings
from thawbox.snapshots import layers

T = TypeVar("T")

EXTRA_S = 4.0
AGAIN_LIMIT_S = 0.3
_PIP = "pip install numpy pandas"
_APT_PACKAGES = ["git", "build-essential"]
_APT = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && "
    f"apt-get install -y -qq {' '.join(_APT_PACKAGES)} && apt-get clean"
)
"""What an apt step runs."""


@dataclass(frozen=True, slots=True)
class Case:
    """A recipe of one step, and the same as a shell line."""

    name: str
    base: str
    step: dict[str, Any]
    line: str
    factor: float
    """how many times as long as in the chroot it may take, besides ``EXTRA_S``"""

    def recipe(self, **fields: Any) -> dict[str, Any]:
        """The request's body."""
        return {
            "alias": f"bench-{self.name}",
            "update": True,
            "cpu": 2,
            "memory": 4096,
            "diskGB": 10,
            "steps": [{"type": "from", "image": self.base}, self.step],
            **fields,
        }


CASES = (
    Case("pip", "python:3.11", {"type": "run", "command": _PIP}, _PIP, 1.2),
    Case("apt", "debian:12", {"type": "apt", "packages": _APT_PACKAGES}, _APT, 1.8),
)


@dataclass(frozen=True, slots=True)
class Built:
    """One build's seconds."""

    total: float
    phases: dict[str, float]
    last_step: float | None


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=3, help="builds of each kind (default 3)")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="only this one")
    arguments = options.parse(parser)
    cases = [case for case in CASES if arguments.case in (None, case.name)]
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        for case in cases:
            _make_base(server, case.base)
        compared = [_compare(server, case, arguments.n) for case in cases]
        again = _again(server, cases[0], max(arguments.n, 5))
        changed = _last_step_changed(server, arguments.n)
    report = Report(
        benchmark="build",
        method=(
            "Base images are in the layer cache; steps are forced to run (skipCache), and load their packages over "
            "the network each time. Thawbox and chroot take turns.",
            "Thawbox: from POST /v1/templates/build to status active (asked every 10 ms, after a second every 100 ms). "
            "chroot: from the mount of the overlay to the command's end; its removal is not counted.",
            "Warm-up: one uncounted chroot run and one uncounted build of each case. The page cache is not dropped.",
        ),
        machine=facts,
        arguments={"n": arguments.n, "case": arguments.case, "own server": arguments.url is None},
        ratios=tuple(one for found in compared for one in found[0]),
        aims=(*(found[1] for found in compared), *again[0], *changed[0]),
        tables=(*(found[2] for found in compared), again[1], changed[1]),
    )
    options.finish(report, arguments.json)


def _make_base(server: Server, image: str) -> None:
    """Have the base image in the cache. Its template stays, so that the layer does."""
    alias = "bench-base-" + re.sub(r"[^a-z0-9]", "-", image)
    server.build({"alias": alias, "update": True, "steps": [{"type": "from", "image": image}]})


def _tree_of(server: Server, image: str) -> Path:
    """The base image's own files: the newest layer that was made FROM it."""
    found = []
    for folder in server.layout.layers.iterdir():
        layer = layers.get(server.layout, folder.name)
        if layer is not None and layer.about.get("title") == f"FROM {image}":
            found.append((layer.about["made_at"], layer.tree))
    return Path(max(found)[1])


def _compare(server: Server, case: Case, n: int) -> tuple[tuple[Ratio, ...], Aim, Table]:
    tree = _tree_of(server, case.base)
    in_chroot = functools.partial(
        chroot.run, tree, case.line, env=step_environment(server.settings), settings=server.settings
    )
    by_thawbox = functools.partial(_build, server, case.recipe(skipCache=True))
    _tried(in_chroot)
    _tried(by_thawbox)
    plain: list[float | Exception] = []
    builds: list[Built | Exception] = []
    for _ in range(n):
        plain.append(_tried(in_chroot))
        builds.append(_tried(by_thawbox))
    native = gather(f"{case.name} in a chroot", "s", plain)
    series = _series(case.name, builds)
    total = series[0]
    aim = Aim(
        what=f"{case.name}: build",
        value=total.median,
        limit=case.factor * native.median + EXTRA_S,
        unit="s",
        formula=f"{case.factor} x chroot + {EXTRA_S:.0f} s",
    )
    step = next((one for one in series if one.name.endswith(": steps")), total)
    ratios = (
        ratio(f"{case.name}: build / chroot", total, native),
        ratio(f"{case.name}: its step alone / chroot", step, native),
    )
    return ratios, aim, Table(title=f"{case.base}, {case.name}", series=(native, *series))


def _again(server: Server, case: Case, n: int) -> tuple[tuple[Aim, ...], Table]:
    """The unchanged recipe."""
    unchanged = functools.partial(_build, server, case.recipe())
    _tried(unchanged)
    series = _series("unchanged recipe", [_tried(unchanged) for _ in range(n)])
    aim = Aim(what="the same recipe again", value=series[0].median, limit=AGAIN_LIMIT_S, unit="s")
    return (aim,), Table(title=f"the {case.name} recipe again, unchanged", series=series)


def _last_step_changed(server: Server, n: int) -> tuple[tuple[Aim, ...], Table]:
    """Five steps, the heavy one first; the last one differs each time."""

    def recipe(mark: str) -> dict[str, Any]:
        steps = [
            {"type": "from", "image": "python:3.11"},
            {"type": "run", "command": _PIP},
            {"type": "env", "key": "MODE", "value": "bench"},
            {"type": "workdir", "path": "/app"},
            {"type": "run", "command": "echo 'import numpy' > /app/first.py"},
            {"type": "run", "command": f"echo {mark} > /app/last && python3 -m compileall -q /app"},
        ]
        return {**CASES[0].recipe(), "alias": "bench-five", "steps": steps}

    _tried(lambda: _build(server, recipe(f"warm-up-{time.time_ns()}")))
    builds = [_tried(functools.partial(_build, server, recipe(str(time.time_ns())))) for _ in range(n)]
    series = _series("last of five changed", builds)
    own = gather(
        "last of five changed: that step",
        "s",
        [built.last_step for built in builds if isinstance(built, Built) and built.last_step is not None],
    )
    aim = Aim(
        what="last step of five changed",
        value=series[0].median,
        limit=own.median + EXTRA_S,
        unit="s",
        formula=f"that step + {EXTRA_S:.0f} s",
    )
    return (aim,), Table(
        title="python:3.11 with numpy and pandas, last of five steps changed", series=(*series, own)
    )


def _build(server: Server, recipe: dict[str, Any]) -> Built:
    template_id, seconds = server.build(recipe)
    row = asyncio.run(newest_build(server.settings, template_id))
    timings = BuildTimings.from_json(row.timings)
    steps = [step.seconds for step in timings.steps if not step.cached]
    return Built(seconds, timings.phases, steps[-1] if steps else None)


def _series(name: str, builds: list[Built | Exception]) -> tuple[Series, ...]:
    """The whole, then its phases, then what no phase accounts for."""
    good = [built for built in builds if isinstance(built, Built)]
    phases = list(dict.fromkeys(phase for built in good for phase in built.phases))
    return (
        gather(name, "s", [built.total if isinstance(built, Built) else built for built in builds]),
        *(
            gather(f"{name}: {phase}", "s", [built.phases[phase] for built in good if phase in built.phases])
            for phase in phases
        ),
        gather(f"{name}: queue, HTTP", "s", [built.total - sum(built.phases.values()) for built in good]),
    )


def _tried(attempt: Callable[[], T]) -> T | Exception:
    """The result, or what went wrong: a failure is a figure too."""
    try:
        return attempt()
    except (BuildFailed, chroot.CommandFailed) as error:
        return error


if __name__ == "__main__":
    main()
