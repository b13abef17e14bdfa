"""Draw what `scripts/bench pools --json FILE` wrote: latency by concurrency, and the pool's depth over time.

Runs in the benchmarks' own environment, which has matplotlib and nothing of the product.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).parents[1] / "docs/images"
_AT_ONCE = re.compile(r"(\d+) at once, pool of (\d+)")
_SIZE = (7.0, 4.0)
_DPI = 120


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("--into", type=Path, default=IMAGES, help="folder (default docs/images)")
    given = parser.parse_args()
    report = json.loads(given.results.read_text())
    if report.get("benchmark") != "pools":
        parser.error(f"{given.results} is not what `scripts/bench pools --json` writes")
    given.into.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update(
        {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
    )
    _latency(report, given.into / "latency-by-concurrency.png")
    _depth(report, given.into / "pool-depth.png")


def _latency(report: dict[str, Any], file: Path) -> None:
    """First results of bursts from a full pool; the crowd, which is larger than the pool, is left out."""
    found: dict[int, dict[str, Any]] = {}
    pool = 0
    for table in report["tables"]:
        if (match := _AT_ONCE.fullmatch(table["title"])) and int(match[1]) <= int(match[2]):
            found[int(match[1])] = next(one for one in table["series"] if one["name"] == "first result")
            pool = int(match[2])
    sizes = sorted(found)
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    for rank, marker in ((50, "o"), (95, "s"), (99, "^")):
        axes.plot(sizes, [found[size][f"p{rank}"] for size in sizes], marker=marker, label=f"p{rank}")
    axes.set_xticks(sizes)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sandboxes asked for at once")
    axes.set_ylabel("ms to the first command's result")
    axes.set_title(f"Out of a full pool of {pool}, {_machine(report)}", fontsize=10)
    axes.legend()
    _write(figure, file)


def _depth(report: dict[str, Any], file: Path) -> None:
    """A panel for each run that was watched."""
    watched = [one for one in report["tables"] if one["title"].startswith("depth of the pool")]
    figure, panels = plt.subplots(
        len(watched), 1, figsize=(_SIZE[0], 2.8 * len(watched)), layout="constrained", squeeze=False
    )
    for axes, table in zip(panels[:, 0], watched, strict=True):
        series = {one["name"]: one["values"] for one in table["series"]}
        for name, style in (("ready", "C0-"), ("shells", "C2-"), ("wanted ready", "C1--")):
            if any(series[name]):
                axes.step(series["seconds"], series[name], style, where="post", label=name)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("sandboxes")
        axes.set_title(table["title"], fontsize=10)
        axes.legend()
    panels[-1, 0].set_xlabel(f"seconds ({_machine(report)})")
    _write(figure, file)


def _machine(report: dict[str, Any]) -> str:
    return f"{report['machine']['cores']} cores, {report['machine']['processor']}"


def _write(figure: Any, file: Path) -> None:
    # Without the software's name and version in it, the same results give the same file.
    figure.savefig(file, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)
    print(file)


if __name__ == "__main__":
    main()
