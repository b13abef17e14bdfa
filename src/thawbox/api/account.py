"""``GET /v1/account/limits``.

Where its names come from: docs/reference/compatibility/sandboxes.md#account-limits.
"""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from thawbox.store import builds, sandboxes
from thawbox.web import context, openapi

from .context import caller_of, context_of

router = APIRouter(tags=["account"])

HOUR = 3600
DAY = 86_400


class Limits(BaseModel):
    """What an organisation may have at most. Null: no limit."""

    max_concurrent_sandboxes: int | None
    max_vcpu_per_sandbox: int
    max_memory_mb_per_sandbox: int
    max_disk_gb_per_sandbox: int
    template_builds_per_hour: int | None
    template_builds_per_day: int | None
    requests_per_minute: int | None


class Usage(BaseModel):
    """What the organisation has now, and built lately."""

    concurrent_sandboxes: int
    template_builds_last_hour: int
    template_builds_last_day: int


class AccountLimits(BaseModel):
    """Limits and usage of the organisation that the API key belongs to."""

    object: Literal["account_limits"] = "account_limits"
    plan: Literal["self-hosted"] = "self-hosted"
    limits: Limits
    usage: Usage = Field(description="Builds are counted in the last 60 minutes and 24 hours.")
    request_id: str


@router.get("/v1/account/limits", responses=openapi.errors())
async def account_limits(request: Request) -> AccountLimits:
    """What your organisation may do, and how much of it is used."""
    settings = context_of(request).settings
    organization_id = caller_of(request).organization_id
    now = time.time()
    async with context_of(request).database.read() as connection:
        of_day = await builds.counted_since(connection, organization_id, now - DAY)
        living = await sandboxes.count(connection, organization_id)
    return AccountLimits(
        limits=Limits(
            max_concurrent_sandboxes=settings.max_sandboxes or None,
            max_vcpu_per_sandbox=settings.max_cpu,
            max_memory_mb_per_sandbox=settings.max_memory_mb,
            max_disk_gb_per_sandbox=settings.max_disk_gb,
            template_builds_per_hour=settings.builds_per_hour or None,
            template_builds_per_day=settings.builds_per_day or None,
            requests_per_minute=settings.requests_per_minute or None,
        ),
        usage=Usage(
            concurrent_sandboxes=living,
            template_builds_last_hour=sum(1 for moment in of_day if moment >= now - HOUR),
            template_builds_last_day=len(of_day),
        ),
        request_id=context.request_id(),
    )
