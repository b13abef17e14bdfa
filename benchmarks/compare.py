"""The same benchmarks in this checkout and in another one, in turns, and the ratio of their medians.

Each round runs every benchmark once in either checkout, and the next round begins with the other of the two, so that
a machine that becomes slower meanwhile does so for both. Each checkout has its own .venv (scripts/setup) and its own
state folder below --work. Without rounds of equal load the ratios mean nothing: let nothing else run.

  scripts/bench compare /srv/thawbox-before boot commands --rounds 4 --pass "boot=-n 30 --concurrency 1"
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import Ratio, Series
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

HERE = Path(__file__).parents[1]
TIMES = ("ms", "s", "us")
"""Units in which less is better and a ratio says something."""


@dataclass
class Samples:
    """All samples of one series, of this checkout and of the other."""

    unit: str
    here: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)

    def series(self, name: str, values: list[float]) -> Series:
        """One side's samples as a series."""
        return Series(name=name, unit=self.unit, values=tuple(values))

    def ratio(self, name: str) -> Ratio:
        """This checkout's median to the other's."""
        here, other = self.series(name, self.here), self.series(name, self.other)
        return Ratio(
            what=name, value=here.median / other.median if other.values and other.median else math.nan
        )


def main() -> int:
    """Entry point; 1 if a ratio is above --limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the checkout to compare with, set up")
    parser.add_argument("names", nargs="+", help="benchmarks: boot, commands, pools, ...")
    parser.add_argument("--rounds", type=int, default=4, help="how often each runs in either (default 4)")
    parser.add_argument(
        "--pass", dest="extra", action="append", default=[], metavar="NAME=ARGUMENTS", help="for a benchmark"
    )
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/thawbox-compare"), metavar="DIR")
    parser.add_argument(
        "--limit", type=float, default=1.05, help="the highest ratio that passes (default 1.05)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    arguments = parser.parse_args()
    if not (arguments.other / ".venv/bin/python").exists():
        parser.error(f"{arguments.other} has no .venv: run scripts/setup there")
    extra = dict(entry.split("=", 1) for entry in arguments.extra)
    samples: dict[tuple[str, str, str], Samples] = {}
    sides = {"here": HERE, "other": arguments.other.resolve()}
    for number in range(arguments.rounds):
        for name in arguments.names:
            for side in sorted(sides, reverse=bool(number % 2)):
                print(f"round {number + 1} of {arguments.rounds}: {name}, {side}", flush=True)
                report = _run(sides[side], arguments.work / side, name, extra.get(name, "").split())
                _add(samples, name, side, report)
    _show(samples, arguments.limit)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{"series": key, **vars(value)} for key, value in samples.items()], indent=1) + "\n"
        )
    return int(
        any(value.ratio("").value > arguments.limit for value in samples.values() if value.unit in TIMES)
    )


def _run(checkout: Path, work: Path, name: str, extra: list[str]) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    result = work / f"{name}.json"
    result.unlink(missing_ok=True)
    subprocess.run(
        [
            checkout / ".venv/bin/python",
            checkout / "benchmarks" / f"{name}.py",
            *("--state", work / f"state-{name}", "--json", result),
            *extra,
        ],
        check=False,  # a missed aim is no failure of the comparison; a missing result is
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if not result.exists():
        sys.exit(f"{name} gave no result in {checkout}: run it there by itself to see why")
    report: dict[str, Any] = json.loads(result.read_text())
    return report


def _add(samples: dict[tuple[str, str, str], Samples], name: str, side: str, report: dict[str, Any]) -> None:
    for table in report["tables"]:
        for series in table["series"]:
            one = samples.setdefault((name, table["title"], series["name"]), Samples(series["unit"]))
            getattr(one, side).extend(series["values"])


def _show(samples: dict[tuple[str, str, str], Samples], limit: float) -> None:
    grouped: defaultdict[tuple[str, str], list[tuple[str, Samples]]] = defaultdict(list)
    for (name, title, series), one in samples.items():
        if one.unit in TIMES and one.here and one.other:
            grouped[name, title].append((series, one))
    console = Console(width=None if os.isatty(1) else 132, highlight=False)
    for (name, title), rows in grouped.items():
        table = RichTable(title=f"{name}: {title}", title_justify="left", box=box.SIMPLE_HEAD)
        for column in ("", "ratio", "p50 here", "other", "p95 here", "other", "unit", "n here", "other"):
            table.add_column(column, justify="left" if column in ("", "unit") else "right")
        for label, one in rows:
            here, other = one.series(label, one.here), one.series(label, one.other)
            ratio = one.ratio(label).value
            table.add_row(
                label,
                f"[red]{ratio:.3f}" if ratio > limit else f"{ratio:.3f}",
                *(f"{side.percentile(rank):.2f}" for rank in (50, 95) for side in (here, other)),
                one.unit,
                str(len(one.here)),
                str(len(one.other)),
            )
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
