"""Organisations: the owners of keys, templates and sandboxes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from .connection import Connection
from .rows import value, value_or_none
from .schema import organizations


@dataclass(frozen=True, slots=True)
class OrganizationRow:
    """An organisation."""

    id: int
    name: str
    created_at: float


async def create(c: Connection, name: str) -> OrganizationRow:
    """Create an organisation.

    Raises:
        sqlalchemy.exc.IntegrityError: the name is taken.
    """
    statement = sa.insert(organizations).values(name=name, created_at=time.time()).returning(organizations)
    return value(OrganizationRow, (await c.execute(statement)).one())


async def get(c: Connection, organization_id: int) -> OrganizationRow | None:
    """The organisation with this id."""
    statement = sa.select(organizations).where(organizations.c.id == organization_id)
    return value_or_none(OrganizationRow, (await c.execute(statement)).one_or_none())


async def get_by_name(c: Connection, name: str) -> OrganizationRow | None:
    """The organisation with this name."""
    statement = sa.select(organizations).where(organizations.c.name == name)
    return value_or_none(OrganizationRow, (await c.execute(statement)).one_or_none())


async def get_or_create(c: Connection, name: str) -> OrganizationRow:
    """The organisation with this name; created if it does not exist. Call it inside a write."""
    return await get_by_name(c, name) or await create(c, name)


async def list_all(c: Connection) -> list[OrganizationRow]:
    """All organisations, oldest first."""
    return [
        value(OrganizationRow, row)
        for row in await c.execute(sa.select(organizations).order_by(organizations.c.id))
    ]
