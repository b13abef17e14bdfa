"""Callbacks that are still to be sent: one row for each execution whose end a client wants to be notified of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import sqlalchemy as sa

from .connection import Connection
from .rows import columns_of, value
from .schema import callbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackRow:
    """A callback that was not delivered yet. Times are seconds since 1970."""

    id: str
    """The agent's id of the job."""
    sandbox_id: str
    url: str
    headers: Mapping[str, str]
    secret: str | None = field(default=None, repr=False)
    """Key of the signature; None: the callback is not signed."""
    body: str | None = None
    """The body to send; None until the execution has ended."""
    attempts: int = 0
    next_at: float
    """When to check the execution, or send the body, again."""
    created_at: float


class CallbackChanges(TypedDict, total=False):
    """Columns that change until a callback is delivered; see ``CallbackRow``."""

    body: str | None
    attempts: int
    next_at: float


async def insert(c: Connection, callback: CallbackRow) -> None:
    """Store a new one."""
    await c.execute(sa.insert(callbacks).values(**columns_of(callback)))


async def due(c: Connection, now: float, limit: int) -> list[CallbackRow]:
    """Up to ``limit`` callbacks whose ``next_at`` is past, the longest overdue first."""
    statement = (
        sa.select(callbacks).where(callbacks.c.next_at <= now).order_by(callbacks.c.next_at).limit(limit)
    )
    return [value(CallbackRow, row) for row in await c.execute(statement)]


async def update(c: Connection, callback_id: str, **changes: Unpack[CallbackChanges]) -> None:
    """Set columns."""
    await c.execute(sa.update(callbacks).where(callbacks.c.id == callback_id).values(**changes))


async def delete(c: Connection, callback_id: str) -> None:
    """Delete the row: the callback was delivered, or all attempts failed."""
    await c.execute(sa.delete(callbacks).where(callbacks.c.id == callback_id))


async def count(c: Connection, sandbox_id: str) -> int:
    """How many callbacks of a sandbox are still to be sent."""
    statement = sa.select(sa.func.count()).where(callbacks.c.sandbox_id == sandbox_id)
    return (await c.execute(statement)).scalar_one()
