"""The times that server and builder wrote down, as rows of a table; read from this machine's database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from thawbox.builder import log as buildlog
from thawbox.settings import Settings
from thawbox.state import Layout
from thawbox.store import builds, sandboxes
from thawbox.store.connection import Connection
from thawbox.store.database import open_database

T = TypeVar("T")
Row = tuple[str, float | None, str]
"""What, how many seconds, a remark."""

_PHASES = {"base": "base image", "image": "root image", "snapshot": "memory snapshot"}
_STEP_DONE = re.compile(r"(\[\d+/\d+\]) done in ([\d.]+) s")
_STEP_CACHED = re.compile(r"CACHED (\[\d+/\d+\] .*)")
_STEP_BEGUN = re.compile(r"(\[\d+/\d+\]) (.*?)(?: \([^()]*\))?$")


def build_figures(settings: Settings, template_id: int, total_s: float) -> list[Row]:
    """A row per phase of the template's newest build and per step, then the whole as the client saw it.

    The steps' times are in the build's log alone.
    """
    build = asyncio.run(_read(settings, lambda connection: builds.newest(connection, template_id)))
    if build is None:
        return [("build in all", total_s, "as the client saw it")]
    log, _ = buildlog.read_text(Layout(settings.state).logs / f"{template_id}.{build.id}.log", 0)
    phases = dict(build.timings or {})
    rows: list[Row] = []
    for phase, seconds in phases.items():
        rows.append((_PHASES.get(phase, phase), seconds, ""))
        if phase == "steps":
            rows += step_figures(log)
    return [*rows, ("build in all", total_s, "as the client saw it")]


def step_figures(log: str) -> list[Row]:
    """A row per step that took time or was cached."""
    rows: list[Row] = []
    titles: dict[str, str] = {}
    for line in log.splitlines():
        if done := _STEP_DONE.fullmatch(line):
            rows.append((f"  {titles.get(done[1], done[1])}", float(done[2]), ""))
        elif cached := _STEP_CACHED.fullmatch(line):
            rows.append((f"  {cached[1]}", None, "cached"))
        elif begun := _STEP_BEGUN.match(line):
            titles[begun[1]] = f"{begun[1]} {begun[2]}"
    return rows


def sandbox_figures(settings: Settings, sandbox_id: str, total_s: float) -> list[Row]:
    """A row for the creation as the client saw it, then one per stage that the server noted."""
    sandbox = asyncio.run(_read(settings, lambda connection: sandboxes.get(connection, sandbox_id)))
    path = f"as the client saw it; boot path: {sandbox.boot_path}" if sandbox and sandbox.boot_path else ""
    stages = dict(sandbox.timings or {}) if sandbox else {}
    stages.pop("total", None)
    return [
        ("sandbox created", total_s, path),
        *((f"  of it {stage}", milliseconds / 1000, "") for stage, milliseconds in stages.items()),
    ]


async def _read(settings: Settings, query: Callable[[Connection], Awaitable[T]]) -> T:
    database = await open_database(settings)
    try:
        async with database.read() as connection:
            return await query(connection)
    finally:
        await database.close()
