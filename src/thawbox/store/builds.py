"""Builds: one row per attempt. The rows that are ``queued`` are the queue.

The API's build id is the template's id; it means the newest attempt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from .connection import Connection
from .enums import BuildStatus
from .rows import value, value_or_none
from .schema import builds, templates

CATALOGUE = 0
"""``organization_id`` of builds that make public templates, which belong to no organisation."""


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One attempt to build a template. Times are seconds since 1970."""

    id: int
    template_id: int
    organization_id: int
    recipe: Mapping[str, Any]
    credentials: Mapping[str, Any] | None = field(repr=False)
    status: BuildStatus
    progress: int
    """0 to 100"""
    current_step: str | None
    error_message: str | None
    counts: bool
    """Whether it counts towards the organisation's quota."""
    timings: Mapping[str, Any] | None
    """Phase -> seconds, and the steps' times: see ``builder.timings``."""
    created_at: float
    started_at: float | None
    completed_at: float | None

    @property
    def ended(self) -> bool:
        """Whether it has ended; an ended build does not change any more."""
        return self.status in (BuildStatus.ACTIVE, BuildStatus.FAILED)


async def create(
    c: Connection,
    *,
    template_id: int,
    organization_id: int,
    recipe: Mapping[str, Any],
    credentials: Mapping[str, Any] | None = None,
    counts: bool = True,
) -> BuildRow:
    """Insert a new attempt at the end of the queue."""
    statement = (
        sa.insert(builds)
        .values(
            template_id=template_id,
            organization_id=organization_id,
            recipe=dict(recipe),
            credentials=dict(credentials) if credentials is not None else None,
            status=BuildStatus.QUEUED,
            counts=counts,
            created_at=time.time(),
        )
        .returning(builds)
    )
    return value(BuildRow, (await c.execute(statement)).one())


async def get(c: Connection, build_id: int) -> BuildRow | None:
    """The attempt with this id (not the API's build id: see ``newest``)."""
    statement = sa.select(builds).where(builds.c.id == build_id)
    return value_or_none(BuildRow, (await c.execute(statement)).one_or_none())


async def newest(c: Connection, template_id: int) -> BuildRow | None:
    """The newest attempt of a template, which may be deleted."""
    statement = (
        sa.select(builds).where(builds.c.template_id == template_id).order_by(builds.c.id.desc()).limit(1)
    )
    return value_or_none(BuildRow, (await c.execute(statement)).one_or_none())


async def with_status(c: Connection, *statuses: BuildStatus) -> list[BuildRow]:
    """All attempts with one of these statuses, oldest first."""
    statement = sa.select(builds).where(builds.c.status.in_(statuses)).order_by(builds.c.id)
    return [value(BuildRow, row) for row in await c.execute(statement)]


async def claim_next(c: Connection) -> BuildRow | None:
    """Take the next build out of the queue and set it to ``building``. None: no build can start.

    Fair: the organisation with the fewest running builds comes first; among equals, the build that waits longest.
    A template has one build at a time. Call it inside a write.
    """
    running = sa.select(builds).where(builds.c.status == BuildStatus.BUILDING).subquery()
    of_organization = (
        sa.select(sa.func.count())
        .where(running.c.organization_id == builds.c.organization_id)
        .scalar_subquery()
    )
    of_template = sa.exists().where(running.c.template_id == builds.c.template_id)
    statement = (
        sa.select(builds)
        .where(builds.c.status == BuildStatus.QUEUED, ~of_template)
        .order_by(of_organization, builds.c.id)
        .limit(1)
    )
    row = (await c.execute(statement)).one_or_none()
    if row is None:
        return None
    claimed = (
        sa.update(builds)
        .where(builds.c.id == row.id, builds.c.status == BuildStatus.QUEUED)
        .values(status=BuildStatus.BUILDING, started_at=time.time())
        .returning(builds)
    )
    return value_or_none(BuildRow, (await c.execute(claimed)).one_or_none())


async def set_progress(c: Connection, build_id: int, progress: int, current_step: str | None) -> None:
    """Set the progress (0 to 100) and step of a running build; one that ended stays as it is."""
    await c.execute(
        sa.update(builds)
        .where(builds.c.id == build_id, builds.c.status == BuildStatus.BUILDING)
        .values(progress=progress, current_step=current_step)
    )


async def finish(
    c: Connection,
    build_id: int,
    *,
    status: BuildStatus,
    error_message: str | None = None,
    timings: Mapping[str, Any] | None = None,
) -> bool:
    """End a build as ``active`` or ``failed`` and delete its credentials. False: it had ended before."""
    fields: dict[str, Any] = {
        "status": status,
        "error_message": error_message,
        "timings": dict(timings) if timings is not None else None,
        "credentials": None,
        "completed_at": time.time(),
    }
    if status == BuildStatus.ACTIVE:
        fields |= {"progress": 100, "current_step": None}
    statement = (
        sa.update(builds)
        .where(builds.c.id == build_id, builds.c.status.in_((BuildStatus.QUEUED, BuildStatus.BUILDING)))
        .values(**fields)
    )
    return (await c.execute(statement)).rowcount == 1


async def requeue_interrupted(c: Connection) -> list[int]:
    """Requeue the builds that ran when the server ended, at their old place. Returns their ids."""
    statement = (
        sa.update(builds)
        .where(builds.c.status == BuildStatus.BUILDING)
        .values(status=BuildStatus.QUEUED, started_at=None)
        .returning(builds.c.id)
    )
    return sorted((await c.execute(statement)).scalars())


async def counted_since(c: Connection, organization_id: int, since: float) -> list[float]:
    """Times of creation, from ``since`` on and oldest first, of the builds that count towards the quota."""
    statement = (
        sa.select(builds.c.created_at)
        .where(
            builds.c.organization_id == organization_id,
            builds.c.counts,
            builds.c.created_at >= since,
        )
        .order_by(builds.c.created_at)
    )
    return list((await c.execute(statement)).scalars())


async def delete_ended_before(c: Connection, before: float) -> list[int]:
    """Delete attempts that ended before then, except the newest of each existing template. Returns their ids."""
    newest_of_living = (
        sa.select(sa.func.max(builds.c.id))
        .where(builds.c.template_id.in_(sa.select(templates.c.id)))
        .group_by(builds.c.template_id)
    )
    statement = (
        sa.delete(builds)
        .where(builds.c.completed_at < before, builds.c.id.not_in(newest_of_living))
        .returning(builds.c.id)
    )
    return sorted((await c.execute(statement)).scalars())
