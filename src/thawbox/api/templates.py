"""``/v1/templates``: list, read, delete.

What clients rely on: docs/reference/compatibility/templates.md.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from thawbox.errors import Forbidden, TemplateInUse, TemplateNotFound
from thawbox.settings import Settings
from thawbox.store import builds, sandboxes, templates
from thawbox.store.enums import TemplateStatus
from thawbox.store.templates import TemplateRow
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi

from .context import caller_of, context_of
from .statuses import AnyTemplateStatus

router = APIRouter(tags=["templates"])

Reference = Annotated[
    str, Path(description="Name or id. Of two templates with this name, yours comes before the public one.")
]


class Resources(BaseModel):
    """The size of a sandbox."""

    vcpu: int
    memory_mb: int
    disk_gb: int


class TemplateItem(BaseModel):
    """A template in a list. Texts without a value are empty, not null."""

    id: str
    object: Literal["template"] = "template"
    name: str
    display_name: str
    description: str
    category: str
    language: str
    icon: str
    is_public: bool
    is_active: bool
    status: AnyTemplateStatus
    build_id: str | None
    default_resources: Resources
    features: list[str]
    tags: list[str]
    organization_id: str | None
    created_at: str
    updated_at: str


class TemplateList(BaseModel):
    """All templates that the caller can use, on one page."""

    object: Literal["list"] = "list"
    data: list[TemplateItem]
    has_more: Literal[False] = False
    url: Literal["/v1/templates"] = "/v1/templates"
    request_id: str


class TemplateDetail(TemplateItem):
    """A template with all of its fields."""

    min_resources: Resources
    max_resources: Resources
    popularity_score: int
    docs_url: str
    error_message: str | None
    request_id: str


class Deleted(BaseModel):
    """The template is deleted."""

    status: Literal["deleted"] = "deleted"
    id: str
    request_id: str


@router.get("/v1/templates", responses=openapi.errors())
async def list_templates(
    request: Request,
    category: Annotated[str | None, Query(description="The whole category, in capitals or not.")] = None,
    language: Annotated[str | None, Query(description="The whole language, in capitals or not.")] = None,
) -> TemplateList:
    """The public templates and your own."""
    async with context_of(request).database.read() as connection:
        rows = await templates.list_visible(connection, caller_of(request).organization_id)
    wanted = [row for row in rows if _same(category, row.category) and _same(language, row.language)]
    return TemplateList(data=[item_of(row) for row in wanted], request_id=context.request_id())


@router.get("/v1/templates/{reference}", responses=openapi.errors(404))
async def get_template(request: Request, reference: Reference) -> TemplateDetail:
    """One template, by name or id."""
    row = await find_template(request, reference)
    return detail_of(row, context_of(request).settings)


@router.delete("/v1/templates/{reference}", responses=openapi.errors(403, 404, 409))
async def delete_template(request: Request, reference: Reference) -> Deleted:
    """Delete one of your templates. If a build of it is running, it is cancelled first."""
    row = await find_template(request, reference)
    if row.is_public:
        raise Forbidden("Cannot delete built-in template")
    while not await _try_delete(request, row):
        await context_of(request).builder.cancel(row.id)
    await context_of(request).builder.forget(row.id)
    return Deleted(id=str(row.id), request_id=context.request_id())


async def find_template(request: Request, reference: str) -> TemplateRow:
    """The template with this name or id, the caller's own before a public one.

    Raises:
        TemplateNotFound: it does not exist, or the caller may not see it.
    """
    async with context_of(request).database.read() as connection:
        row = await templates.find(connection, caller_of(request).organization_id, reference)
    if row is None:
        raise TemplateNotFound(
            f"Template {reference[:100]!r} does not exist or is not visible to your organization."
        )
    return row


async def _try_delete(request: Request, row: TemplateRow) -> bool:
    """Delete the row in one transaction. Returns False if it is being built.

    Raises:
        TemplateInUse: it has sandboxes.
        TemplateNotFound: it was deleted meanwhile.
    """
    async with context_of(request).database.write() as connection:
        if await sandboxes.alive_of_template(connection, row.id, time.time()):
            raise TemplateInUse("Template is currently being used by active sandboxes")
        build = await builds.newest(connection, row.id)
        if build is not None and not build.ended:
            return False
        if not await templates.delete(connection, row.id):
            raise TemplateNotFound(f"Template {row.name!r} was deleted meanwhile.")
        return True


def _same(wanted: str | None, actual: str | None) -> bool:
    return wanted is None or wanted.casefold() == (actual or "").casefold()


def detail_of(row: TemplateRow, settings: Settings) -> TemplateDetail:
    """The answer about one template. ``settings`` gives the largest resources where the row has none."""
    return TemplateDetail(
        **_item(row),
        min_resources=Resources(**row.min_resources or {"vcpu": 1, "memory_mb": 128, "disk_gb": 1}),
        max_resources=Resources(
            **row.max_resources
            or {
                "vcpu": settings.max_cpu,
                "memory_mb": settings.max_memory_mb,
                "disk_gb": settings.max_disk_gb,
            }
        ),
        popularity_score=row.popularity_score,
        docs_url=row.docs_url or "",
        error_message=row.error_message if row.status == TemplateStatus.FAILED else None,
        request_id=context.request_id(),
    )


def item_of(row: TemplateRow) -> TemplateItem:
    """A template as a list shows it."""
    return TemplateItem(**_item(row))


def _item(row: TemplateRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "display_name": row.display_name,
        "description": row.description,
        "category": row.category,
        "language": row.language or "",
        "icon": row.icon or "",
        "is_public": row.is_public,
        "is_active": row.is_active,
        "status": row.status,
        "build_id": None if row.is_public else str(row.id),
        "default_resources": Resources(vcpu=row.cpu, memory_mb=row.memory_mb, disk_gb=row.disk_gb),
        "features": list(row.features),
        "tags": list(row.tags),
        "organization_id": None if row.organization_id is None else str(row.organization_id),
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }
