"""The models of sandboxes in answers.

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
    """The size of a sandbox, which is always its template's."""

    vcpu: int
    memory_mb: int
    disk_mb: int


class SandboxFields(BaseModel):
    """The fields that every representation of a sandbox has."""

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
        description="How the sandbox came up: taken thawed from a pool (`warm`), thawed into a waiting container "
        "(`shell`), thawed into a new container (`created`), booted without a memory snapshot (`cold`), or copied "
        "from another sandbox (`fork`). Null until it is up.",
    )
    timings: dict[str, float] | None = Field(
        None, description="Milliseconds that each stage of the creation took, and `total`."
    )


class SandboxObject(SandboxFields):
    """One sandbox, as an answer."""

    request_id: str


class NewSandbox(SandboxFields):
    """A new sandbox in a list, with its token for the gateway."""

    auth_token: str
    token_expires_at: str


class CreatedSandbox(NewSandbox):
    """A new sandbox, as an answer, with its token for the gateway at ``public_host``."""

    request_id: str


class ForkedSandboxes(BaseModel):
    """New sandboxes that are copies of one sandbox."""

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
    """The sandbox is deleted."""

    status: Literal["deleted"] = "deleted"
    id: str
    request_id: str


class TimeoutSet(BaseModel):
    """The new timeout of a sandbox; null: it lives for ever."""

    id: str
    timeout_seconds: int | None
    expires_at: str | None
    request_id: str


class StateChanged(BaseModel):
    """The status that a sandbox has now. Its address never changes."""

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
    """The values of ``SandboxFields`` for ``row``. Addresses are such that the client of ``request`` can reach them."""
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
