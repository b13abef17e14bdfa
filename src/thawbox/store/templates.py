"""Templates, from which sandboxes are created."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

from .connection import Connection
from .enums import TemplateStatus
from .rows import MAX_ID, value, value_or_none
from .schema import templates

_ID = re.compile(r"[0-9]{1,10}", re.ASCII)
_BY_ID = sa.select(templates).where(templates.c.id == sa.bindparam("template_id"))


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A template. ``organization_id`` None: it is public and from the catalogue. Times are seconds since 1970."""

    id: int
    organization_id: int | None
    name: str
    display_name: str
    description: str
    category: str
    language: str | None
    icon: str | None
    features: tuple[str, ...]
    tags: tuple[str, ...]
    docs_url: str | None
    popularity_score: int
    cpu: int
    memory_mb: int
    disk_gb: int
    min_resources: Mapping[str, int] | None
    """vcpu, memory_mb and disk_gb; only templates of the catalogue have it."""
    max_resources: Mapping[str, int] | None
    status: TemplateStatus
    error_message: str | None
    snapshot_key: str | None
    """Key of the version that sandboxes are made from. It is the old one while an update builds, or after it failed."""
    created_at: float
    updated_at: float

    @property
    def is_public(self) -> bool:
        """Whether it is from the catalogue, so that every organisation can use it."""
        return self.organization_id is None

    @property
    def is_active(self) -> bool:
        """Whether sandboxes can be created: it is built, or an update builds and the old version is used."""
        return self.status == TemplateStatus.ACTIVE or (
            self.status == TemplateStatus.BUILDING and self.snapshot_key is not None
        )


class TemplateChanges(TypedDict, total=False):
    """Columns that change during a template's life; see ``TemplateRow``."""

    display_name: str
    description: str
    category: str
    language: str | None
    icon: str | None
    features: Sequence[str]
    tags: Sequence[str]
    docs_url: str | None
    popularity_score: int
    cpu: int
    memory_mb: int
    disk_gb: int
    min_resources: Mapping[str, int] | None
    max_resources: Mapping[str, int] | None
    status: TemplateStatus
    error_message: str | None
    snapshot_key: str | None
    updated_at: float


async def create(
    c: Connection,
    *,
    organization_id: int | None,
    name: str,
    cpu: int,
    memory_mb: int,
    disk_gb: int,
    status: TemplateStatus = TemplateStatus.BUILDING,
    display_name: str | None = None,
    description: str = "",
    category: str = "custom",
    language: str | None = None,
    icon: str | None = None,
    features: Sequence[str] = (),
    tags: Sequence[str] = (),
    docs_url: str | None = None,
    popularity_score: int = 0,
) -> TemplateRow:
    """Insert a new template.

    Raises:
        sqlalchemy.exc.IntegrityError: the organisation (without one: the catalogue) has that name already.
    """
    now = time.time()
    statement = (
        sa.insert(templates)
        .values(
            organization_id=organization_id,
            name=name,
            display_name=display_name or name,
            description=description,
            category=category,
            language=language,
            icon=icon,
            features=list(features),
            tags=list(tags),
            docs_url=docs_url,
            popularity_score=popularity_score,
            cpu=cpu,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
            status=status,
            created_at=now,
            updated_at=now,
        )
        .returning(templates)
    )
    return value(TemplateRow, (await c.execute(statement)).one())


async def get(c: Connection, template_id: int) -> TemplateRow | None:
    """The template with this id, whoever owns it."""
    return value_or_none(TemplateRow, (await c.execute(_BY_ID, {"template_id": template_id})).one_or_none())


async def find(c: Connection, organization_id: int, reference: str) -> TemplateRow | None:
    """The template that ``reference`` (id or name) means to this organisation: its own before public ones.

    A reference of digits only is an id, because no name has only digits.
    """
    if _ID.fullmatch(reference):
        number = int(reference)
        if number > MAX_ID or str(number) != reference:
            return None
        found = await c.execute(_FIND_BY_ID, {"id": number, "organization_id": organization_id})
    else:
        found = await c.execute(_FIND_BY_NAME, {"name": reference, "organization_id": organization_id})
    return value_or_none(TemplateRow, found.one_or_none())


async def get_own(c: Connection, organization_id: int | None, name: str) -> TemplateRow | None:
    """The organisation's own template of this name; with None the catalogue's."""
    statement = sa.select(templates).where(
        templates.c.organization_id == organization_id, templates.c.name == name
    )
    return value_or_none(TemplateRow, (await c.execute(statement)).one_or_none())


async def list_visible(c: Connection, organization_id: int) -> list[TemplateRow]:
    """Public templates that have a version, and the organisation's own, oldest first."""
    statement = sa.select(templates).where(_visible_to(organization_id)).order_by(templates.c.id)
    return [value(TemplateRow, row) for row in await c.execute(statement)]


async def list_all(c: Connection) -> list[TemplateRow]:
    """Every template, oldest first."""
    return [value(TemplateRow, row) for row in await c.execute(sa.select(templates).order_by(templates.c.id))]


async def update(c: Connection, template_id: int, **changes: Unpack[TemplateChanges]) -> bool:
    """Set columns; ``updated_at`` becomes now unless given. False: there is no such template."""
    changes.setdefault("updated_at", time.time())
    statement = sa.update(templates).where(templates.c.id == template_id).values(**changes)
    return (await c.execute(statement)).rowcount == 1


async def delete(c: Connection, template_id: int) -> bool:
    """Remove the row; False if it was gone. The rows of its builds and sandboxes stay."""
    statement = sa.delete(templates).where(templates.c.id == template_id)
    return (await c.execute(statement)).rowcount == 1


async def snapshot_keys(c: Connection) -> set[str]:
    """Keys of the versions that templates have."""
    statement = sa.select(templates.c.snapshot_key).where(templates.c.snapshot_key.is_not(None)).distinct()
    return set((await c.execute(statement)).scalars())


async def names_of_snapshots(c: Connection) -> dict[str, str]:
    """Version key -> name of a template that has this version."""
    statement = sa.select(templates.c.snapshot_key, templates.c.name).where(
        templates.c.snapshot_key.is_not(None)
    )
    return {row.snapshot_key: row.name for row in await c.execute(statement)}


def _visible_to(organization_id: int | sa.BindParameter[int]) -> sa.ColumnElement[bool]:
    # A template of the catalogue that was never built here cannot be used.
    ready_made = sa.and_(templates.c.organization_id.is_(None), templates.c.snapshot_key.is_not(None))
    return sa.or_(ready_made, templates.c.organization_id == organization_id)


def _finder(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(templates)
        .where(condition, _visible_to(sa.bindparam("organization_id")))
        .order_by(templates.c.organization_id.is_(None))
        .limit(1)
    )


# Built once: every creation of a sandbox runs one of them.
_FIND_BY_ID = _finder(templates.c.id == sa.bindparam("id"))
_FIND_BY_NAME = _finder(templates.c.name == sa.bindparam("name"))
