"""What sandboxes look like in answers.

What clients rely on: docs/reference/compatibility/sandboxes.md#the-sandbox-object.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from thawbox.settings import Settings
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.util.timestamps import rfc3339, rfc3339_or_none
from thawbox.web.addresses import ports_url, sandbox_url

from .statuses import AnyBootPath, AnySandboxStatus, SettledStatus


class SandboxResources(BaseModel):
    """Its size; always the template's."""

    vcpu: int
    memory_mb: int
    disk_mb: int


class SandboxFields(BaseModel):
    """What every representation of a sandbox has."""

    id: str
    object: Literal["sandbox"] = "sandbox"
    status: AnySandboxStatus
    organization_id: int
    template_id: str
    template_name: str
    region: str
    node_id: str
    public_host: str
    direct_url: str
    preview_url: str
    public_ports: list[int] | bool
    resources: SandboxResources
    internet_access: bool
    live_mode: bool
    timeout_seconds: int | None
    expires_at: str | None
    created_at: str
    error_message: str | None = None
    boot_path: AnyBootPath | None = Field(
        None,
        description="How it came up: handed over thawed, thawed into a container that was there already, thawed "
        "into a new one, booted without a memory snapshot, or copied from another. Null before that.",
    )
    timings: dict[str, float] | None = Field(
        None, description="Milliseconds that each stage of its creation took, and `total`."
    )


class SandboxObject(SandboxFields):
    """A sandbox alone."""

    request_id: str


class NewSandbox(SandboxFields):
    """A new sandbox among others, with the token that opens it."""

    auth_token: str
    token_expires_at: str


class CreatedSandbox(NewSandbox):
    """A new sandbox, with the token that opens it at ``public_host``."""

    request_id: str


class ForkedSandboxes(BaseModel):
    """New sandboxes that are copies of one."""

    object: Literal["list"] = "list"
    data: list[NewSandbox]
    request_id: str


class SandboxList(BaseModel):
    """A page of sandboxes."""

    object: Literal["list"] = "list"
    data: list[SandboxFields]
    has_more: bool
    next_cursor: str | None
    url: Literal["/v1/sandboxes"] = "/v1/sandboxes"
    request_id: str


class SandboxDeleted(BaseModel):
    """It is gone."""

    status: Literal["deleted"] = "deleted"
    id: str
    request_id: str


class TimeoutSet(BaseModel):
    """The new lifetime; null: for ever."""

    id: str
    timeout_seconds: int | None
    expires_at: str | None
    request_id: str


class StateChanged(BaseModel):
    """The state that it is in now; the address never changes."""

    id: str
    status: SettledStatus
    public_host: str
    request_id: str


class RefreshedToken(BaseModel):
    """A new token for the gateway."""

    id: str
    auth_token: str
    token_expires_at: str
    request_id: str


def fields_of(request: Request, settings: Settings, row: SandboxRow) -> dict[str, Any]:
    """The fields of ``SandboxFields`` for this row, with addresses as the asking client can reach them."""
    address = sandbox_url(request, settings, row.id)
    return {
        "id": row.id,
        "status": row.status,
        "organization_id": row.organization_id,
        "template_id": str(row.template_id),
        "template_name": row.template_name,
        "region": settings.region,
        "node_id": settings.node,
        "public_host": address,
        "direct_url": address,
        "preview_url": ports_url(request, settings, row.id),
        "public_ports": list(row.public_ports) if isinstance(row.public_ports, tuple) else row.public_ports,
        "resources": SandboxResources(vcpu=row.cpu, memory_mb=row.memory_mb, disk_mb=row.disk_gb * 1024),
        "internet_access": row.internet_access,
        "live_mode": row.live,
        "timeout_seconds": row.timeout_seconds,
        "expires_at": rfc3339_or_none(row.expires_at),
        "created_at": rfc3339(row.created_at),
        "error_message": row.reason if row.status == SandboxStatus.ERROR else None,
        "boot_path": row.boot_path,
        "timings": row.timings,
    }
