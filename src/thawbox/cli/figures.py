"""The times that the server keeps of a build and of a sandbox, as rows of a table; from this machine's database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from thawbox.builder.timings import BuildTimings
from thawbox.settings import Settings
from thawbox.store import builds, sandboxes
from thawbox.store.connection import Connection
from thawbox.store.database import open_database

T = TypeVar("T")
Row = tuple[str, float | None, str]
"""What, how many seconds, a remark."""

_PHASES = {"base": "base image", "image": "root image", "snapshot": "memory snapshot"}


def build_figures(settings: Settings, template_id: int, total_s: float) -> list[Row]:
    """A row per phase of the template's newest build and per step, then the whole as the client saw it.

    ``total_s``: seconds of the whole. Builds of servers that did not keep the steps' times have rows of phases alone.
    """
    build = asyncio.run(_read(settings, lambda connection: builds.newest(connection, template_id)))
    timings = BuildTimings.from_json(build.timings if build else None)
    return [*phase_figures(timings), ("build in all", total_s, "as the client saw it")]


def phase_figures(timings: BuildTimings) -> list[Row]:
    """A row per phase; below the phase of the steps, one per step that took time or was cached."""
    rows: list[Row] = []
    for phase, seconds in timings.phases.items():
        rows.append((_PHASES.get(phase, phase), seconds, ""))
        if phase == "steps":
            rows += [
                (f"  {step.title}", None if step.cached else step.seconds, "cached" if step.cached else "")
                for step in timings.steps
            ]
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
