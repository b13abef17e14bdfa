"""Formats output: consoles, tables, durations, sizes, and text that is not trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thawbox.store.enums import SandboxStatus, TemplateStatus
from thawbox.util.control_sequences import last_state, strip_controls


def console(*, stderr: bool = False) -> Console:
    """A new console on standard output or error. It is made at each call, so that it follows redirections."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def harmless(line: str) -> str:
    """``line`` without control sequences. Of a progress bar that is redrawn with \\r, the last state remains."""
    return strip_controls(last_state(line), keep="\t\n")


def duration(seconds: float) -> str:
    """Seconds for people: ``0.8 ms``, ``52 ms``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else coarse(seconds)


def coarse(seconds: float) -> str:
    """Like ``duration``, but rounded to whole seconds."""
    whole = round(seconds)
    for larger, smaller, unit, below in (("min", "s", 60, 3600), ("h", "min", 3600, 86400)):
        if whole < 60:
            return f"{whole} s"
        if whole < below:
            rest = whole % unit // (unit // 60)
            return f"{whole // unit} {larger}" + (f" {rest} {smaller}" if rest else "")
    rest = whole % 86400 // 3600
    return f"{whole // 86400} d" + (f" {rest} h" if rest else "")


def size(count: int) -> str:
    """Bytes for people: ``512 B``, ``1.5 MB``, ``3.0 GB`` (powers of 1000)."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time from the API; None if ``text`` is None or empty."""
    return datetime.fromisoformat(text) if text else None


def ago(text: str | None) -> str:
    """The time since an RFC 3339 time of the API, as ``coarse`` writes it; empty without a time."""
    then = moment(text)
    return coarse(max(0.0, (datetime.now(UTC) - then).total_seconds())) if then else ""


def until(text: str | None) -> str:
    """The time until an RFC 3339 time of the API, as ``coarse`` writes it; ``never`` without a time."""
    then = moment(text)
    return coarse(max(0.0, (then - datetime.now(UTC)).total_seconds())) if then else "never"


def print_json(value: Any) -> None:
    """Print ``value`` as one JSON document on standard output, for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a plain table on standard output. Cells are not read as markup, and are not cut off.

    On a terminal the last column is wrapped. Control sequences in texts are removed.
    """
    out = console()
    table = Table(box=box.SIMPLE_HEAD if out.is_terminal else None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        table.add_column(column.upper(), no_wrap=True, overflow="ignore")
    table.add_column(columns[-1].upper(), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(harmless(cell)) for cell in row))
    if not out.is_terminal:
        out.width = 10_000  # piped output is for grep and awk, so lines are not wrapped
    out.print(table, crop=False)


def status_text(status: str) -> Text:
    """A status of a template or sandbox, coloured."""
    colours: dict[str, str] = {
        TemplateStatus.ACTIVE: "green",
        SandboxStatus.RUNNING: "green",
        TemplateStatus.FAILED: "red",
        SandboxStatus.ERROR: "red",
    }
    return Text(harmless(status), style=colours.get(status, "yellow"))
