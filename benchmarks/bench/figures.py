"""Samples, their percentiles, and the report that a person or a program reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from thawbox.util.percentile import percentile

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All samples of one thing."""

    name: str
    unit: str
    values: tuple[float, ...]
    failures: tuple[str, ...] = ()
    """what went wrong, once per attempt that gave no sample"""
    note: str = ""
    """why there are no samples, if that is no failure"""

    def percentile(self, rank: int) -> float:
        """The nearest-rank percentile; not a number without samples."""
        return percentile(self.values, rank)

    @property
    def median(self) -> float:
        """The nearest-rank 50th percentile."""
        return self.percentile(50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as much one thing takes as another."""

    what: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A figure that should stay below a limit."""

    what: str
    value: float
    limit: float
    unit: str
    formula: str = ""
    """where the limit comes from, if it is not a constant"""

    @property
    def reached(self) -> bool:
        """False also without a sample."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Series that belong together."""

    title: str
    series: tuple[Series, ...]
    printed: bool = True
    """False: for programs and plots alone"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a service says of itself, or others of it. Not measured here."""

    service: str
    figure: str
    what: str
    """what was timed"""
    where: str
    """who measured it, when, and on what"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a benchmark found."""

    benchmark: str
    method: tuple[str, ...]
    """sentences: what was done, warm-up and cache state included"""
    machine: Mapping[str, Any]
    arguments: Mapping[str, Any]
    ratios: tuple[Ratio, ...]
    aims: tuple[Aim, ...]
    tables: tuple[Table, ...] = field(default_factory=tuple)
    published: tuple[Published, ...] = ()


def gather(name: str, unit: str, results: Iterable[float | Exception], *, note: str = "") -> Series:
    """A series of what succeeded; exceptions are its failures."""
    kept = list(results)
    return Series(
        name=name,
        unit=unit,
        values=tuple(round(value, 4) for value in kept if not isinstance(value, Exception)),
        failures=tuple(describe(error) for error in kept if isinstance(error, Exception)),
        note=note,
    )


def describe(error: Exception) -> str:
    """An exception as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def ratio(what: str, of: Series, to: Series) -> Ratio:
    """Median to median."""
    return Ratio(what=what, value=of.median / to.median if to.values else math.nan)


def show(report: Report, console: Console) -> None:
    """Print the report: ratios first, then aims, then every series."""
    console.rule(f"[bold]{report.benchmark}", align="left")
    for name, value in report.machine.items():
        console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
    for sentence in report.method:
        console.print(sentence, style="dim", markup=False, highlight=False, soft_wrap=True)
    if report.ratios:
        console.print(_ratios(report.ratios))
    if report.aims:
        console.print(_aims(report.aims))
    for table in report.tables:
        if table.printed:
            console.print(_samples(table))
    if report.published:
        console.print(_published(report.published))
    for table in report.tables:
        for series in table.series:
            for failure in series.failures:
                console.print(f"{series.name} failed: {failure}", style="red", markup=False, soft_wrap=True)


def write_json(report: Report, path: Path) -> None:
    """The report with every sample, for programs. A figure that there is no sample for is null."""
    plain = asdict(report)
    for table in plain["tables"]:
        for series in table["series"]:
            found = Series(**series)
            series.update({f"p{rank}": found.percentile(rank) for rank in PERCENTILES})
    for plain_aim, aim in zip(plain["aims"], report.aims, strict=True):
        plain_aim["reached"] = aim.reached
    path.write_text(json.dumps(_without_nan(plain), indent=1) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _ratios(ratios: tuple[Ratio, ...]) -> RichTable:
    table = RichTable("ratio of medians", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("times", justify="right")
    for one in ratios:
        table.add_row(one.what, f"{one.value:.2f}")
    return table


def _aims(aims: tuple[Aim, ...]) -> RichTable:
    table = RichTable("aim", box=box.SIMPLE_HEAD)
    for column in ("median", "limit"):
        table.add_column(column, justify="right")
    table.add_column("reached")
    table.add_column("limit is")
    for aim in aims:
        table.add_row(
            aim.what,
            f"{_number(aim.value)} {aim.unit}",
            f"{_number(aim.limit)} {aim.unit}",
            "[green]yes" if aim.reached else "[red]no",
            aim.formula,
        )
    return table


def _samples(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("")
    noted = any(series.note for series in table.series)
    for column in (*(f"p{rank}" for rank in PERCENTILES), "min", "max", "unit", "n", "failed"):
        shown.add_column(column, justify="left" if column == "unit" else "right")
    if noted:
        shown.add_column("")
    for series in table.series:
        low, high = (min(series.values), max(series.values)) if series.values else (math.nan, math.nan)
        figures = [*(series.percentile(rank) for rank in PERCENTILES), low, high]
        shown.add_row(
            series.name,
            *(_number(figure) for figure in figures),
            series.unit,
            str(len(series.values)),
            str(len(series.failures)),
            *([series.note] if noted else []),
        )
    return shown


def _published(figures: tuple[Published, ...]) -> RichTable:
    shown = RichTable(title="published figures, not measured here", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("service", "figure", "what", "where"):
        shown.add_column(column)
    for one in figures:
        shown.add_row(one.service, one.figure, one.what, one.where)
    return shown


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
