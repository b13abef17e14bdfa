"""Sandboxes: one row for each. A deleted sandbox has no row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import sqlalchemy as sa

from .connection import Connection
from .enums import BootPath, SandboxStatus
from .rows import columns_of, value, value_or_none
from .schema import sandboxes

# Built once: every request at the gateway runs one of them.
_INSERT = sa.insert(sandboxes)
_BY_ID = sa.select(sandboxes).where(sandboxes.c.id == sa.bindparam("sandbox_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRow:
    """A sandbox. Times are seconds since 1970."""

    id: str
    organization_id: int
    template_id: int
    template_name: str
    snapshot_key: str
    status: SandboxStatus
    reason: str | None = None
    """Why it is in error."""
    cpu: int
    memory_mb: int
    disk_gb: int
    internet_access: bool
    live: bool
    public_ports: tuple[int, ...] | bool = ()
    """Ports that the gateway opens without a token; True: all of them."""
    slot: int | None = None
    secret: str = field(repr=False)
    """Secret that the agent inside demands; empty: there is no container."""
    agent_image: str | None = None
    """File name of the agent image that it was made with. Its memory restores only with this one."""
    memory: str | None = None
    """Name of the folder below ``paused/<id>`` that holds its memory and files. Then it has no container."""
    memory_runsc: str | None = None
    """Digest (sha256) of the runtime that wrote them."""
    paused_at: float | None = None
    boot_path: BootPath | None = None
    """None before it came up."""
    timings: Mapping[str, float] | None = None
    """Stage -> milliseconds."""
    timeout_seconds: int | None = None
    expires_at: float | None = None
    created_at: float
    token_expires_at: float = 0.0
    """End of the newest token from a refresh; 0: there was no refresh."""

    def expired(self, now: float) -> bool:
        """Whether its time is over: it is hidden from clients and deleted soon."""
        return self.expires_at is not None and self.expires_at <= now

    def is_public(self, port: int) -> bool:
        """Whether the gateway lets requests to this port pass without a token."""
        return self.public_ports if isinstance(self.public_ports, bool) else port in self.public_ports


class SandboxChanges(TypedDict, total=False):
    """Columns that change during a sandbox's life; see ``SandboxRow``."""

    status: SandboxStatus
    reason: str | None
    slot: int | None
    secret: str
    memory: str | None
    memory_runsc: str | None
    paused_at: float | None
    boot_path: BootPath | None
    timings: Mapping[str, float] | None
    expires_at: float | None
    token_expires_at: float


async def insert(c: Connection, sandbox: SandboxRow) -> None:
    """Store a new sandbox."""
    await c.execute(_INSERT, columns_of(sandbox))


async def get(c: Connection, sandbox_id: str) -> SandboxRow | None:
    """The sandbox with this id, whoever owns it, expired or not."""
    return value_or_none(SandboxRow, (await c.execute(_BY_ID, {"sandbox_id": sandbox_id})).one_or_none())


async def list_page(
    c: Connection,
    organization_id: int,
    *,
    now: float,
    limit: int,
    after: tuple[float, str] | None = None,
    status: SandboxStatus | None = None,
) -> list[SandboxRow]:
    """Up to ``limit`` of an organisation's sandboxes that are not expired, newest first.

    ``after``: only those older than the sandbox with this time of creation and this id. (The id alone gives no order:
    a container gets it before it waits in a pool.)
    """
    statement = (
        sa.select(sandboxes)
        .where(sandboxes.c.organization_id == organization_id, _alive(now))
        .order_by(sandboxes.c.created_at.desc(), sandboxes.c.id.desc())
        .limit(limit)
    )
    if after is not None:
        created_at, sandbox_id = after
        statement = statement.where(
            sa.or_(
                sandboxes.c.created_at < created_at,
                sa.and_(sandboxes.c.created_at == created_at, sandboxes.c.id < sandbox_id),
            )
        )
    if status is not None:
        statement = statement.where(sandboxes.c.status == status)
    return [value(SandboxRow, row) for row in await c.execute(statement)]


async def update(c: Connection, sandbox_id: str, **changes: Unpack[SandboxChanges]) -> bool:
    """Set columns; False if the sandbox is gone."""
    statement = sa.update(sandboxes).where(sandboxes.c.id == sandbox_id).values(**changes)
    return (await c.execute(statement)).rowcount == 1


async def set_timeout(
    c: Connection, sandbox_id: str, *, now: float, timeout_seconds: int | None
) -> SandboxRow | None:
    """Set a new lifetime, counted from ``now``; None: it never ends.

    Returns None if the sandbox is gone or has expired: it may be in deletion already.
    """
    expires_at = None if timeout_seconds is None else now + timeout_seconds
    statement = (
        sa.update(sandboxes)
        .where(sandboxes.c.id == sandbox_id, _alive(now))
        .values(timeout_seconds=timeout_seconds, expires_at=expires_at)
        .returning(sandboxes)
    )
    return value_or_none(SandboxRow, (await c.execute(statement)).one_or_none())


async def delete(c: Connection, sandbox_id: str) -> bool:
    """Remove the row; False if it was gone."""
    return (await c.execute(sa.delete(sandboxes).where(sandboxes.c.id == sandbox_id))).rowcount == 1


async def due(c: Connection, now: float) -> list[SandboxRow]:
    """Sandboxes that have expired, the longest overdue first."""
    statement = sa.select(sandboxes).where(sandboxes.c.expires_at <= now).order_by(sandboxes.c.expires_at)
    return [value(SandboxRow, row) for row in await c.execute(statement)]


async def frozen(c: Connection, before: float) -> list[SandboxRow]:
    """Sandboxes that were paused before then and are still in memory, the longest paused first."""
    statement = (
        sa.select(sandboxes)
        .where(
            sandboxes.c.status == SandboxStatus.PAUSED,
            sandboxes.c.memory.is_(None),
            sandboxes.c.paused_at <= before,
        )
        .order_by(sandboxes.c.paused_at)
    )
    return [value(SandboxRow, row) for row in await c.execute(statement)]


async def list_all(c: Connection) -> list[SandboxRow]:
    """All sandboxes of this node, by id."""
    statement = sa.select(sandboxes).order_by(sandboxes.c.id)
    return [value(SandboxRow, row) for row in await c.execute(statement)]


async def count(c: Connection, organization_id: int) -> int:
    """How many sandboxes an organisation has, whatever their status."""
    statement = sa.select(sa.func.count()).where(sandboxes.c.organization_id == organization_id)
    return (await c.execute(statement)).scalar_one()


async def snapshot_keys(c: Connection) -> set[str]:
    """Keys of the versions that sandboxes were made from; their files must stay."""
    return set((await c.execute(sa.select(sandboxes.c.snapshot_key).distinct())).scalars())


async def alive_of_template(c: Connection, template_id: int, now: float) -> int:
    """How many sandboxes of a template are neither expired nor in error."""
    statement = sa.select(sa.func.count()).where(
        sandboxes.c.template_id == template_id, sandboxes.c.status != SandboxStatus.ERROR, _alive(now)
    )
    return (await c.execute(statement)).scalar_one()


def _alive(now: float) -> sa.ColumnElement[bool]:
    return sa.or_(sandboxes.c.expires_at.is_(None), sandboxes.c.expires_at > now)
