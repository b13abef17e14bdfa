"""``/v1/sandboxes``: create, list, read, delete, timeout, token.

What clients rely on: docs/reference/compatibility/sandboxes.md.
"""

from __future__ import annotations

import re
import time
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field, field_validator

from thawbox.errors import InvalidState, SandboxNotFound, TemplateNotFound, UserError
from thawbox.store import sandboxes, templates
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.util.timestamps import rfc3339, rfc3339_or_none
from thawbox.web import context, openapi
from thawbox.web.bodies import Body, read_model, usable_environment

from .context import caller_of, context_of
from .sandbox_models import (
    CreatedSandbox,
    RefreshedToken,
    SandboxDeleted,
    SandboxFields,
    SandboxList,
    SandboxObject,
    TimeoutSet,
    fields_of,
)
from .statuses import StatusFilter

router = APIRouter(tags=["sandboxes"])

MAX_TIMEOUT_S = 10 * 365 * 86_400
PAGE_MAX = 1000
PUBLIC_PORTS_MAX = 100

SandboxId = Annotated[str, Path(description="The `id` from the answer to the create request.")]
_CURSOR = re.compile(r"([0-9]{1,12}\.[0-9]{1,9})-([a-z0-9]{1,64})", re.ASCII)
"""The creation time (seconds since 1970) and the id of the last sandbox on the previous page."""
_Cursor = Annotated[str | None, Query(description="The `next_cursor` of the previous page.")]


class CreateSandbox(Body):
    """``template_id`` or ``template_name`` is required. If both are there, ``template_id`` is used."""

    template_id: str | int | None = Field(
        default=None, description="Id of the template, as string or number; a name works as well."
    )
    template_name: str | None = Field(default=None, description="Name of the template; an id works as well.")
    timeout_seconds: int | None = Field(default=None, ge=1, le=MAX_TIMEOUT_S, description="Null: for ever.")
    internet_access: bool | None = Field(default=None, description="Default true.")
    env_vars: dict[str, str] | None = None
    region: str | None = Field(default=None, description="Accepted but ignored: there is one region.")
    public_ports: list[Annotated[int, Field(ge=1, le=65535)]] | bool | None = Field(
        default=None,
        description="Ports inside that anybody can reach without a token, at most 100; true: all. Default: none.",
    )

    @field_validator("env_vars")
    @classmethod
    def usable(cls, env_vars: dict[str, str] | None) -> dict[str, str] | None:
        """Check that names and values can be environment variables."""
        return usable_environment(env_vars)

    @field_validator("public_ports")
    @classmethod
    def few(cls, public_ports: list[int] | bool | None) -> list[int] | bool | None:
        """Check that the list is short, so that the record of the sandbox stays small."""
        if isinstance(public_ports, list) and len(public_ports) > PUBLIC_PORTS_MAX:
            raise ValueError(f"at most {PUBLIC_PORTS_MAX} ports can be listed; use true for all ports")
        return public_ports


class SetTimeout(Body):
    """A new timeout, counted from now."""

    timeout_seconds: int = Field(ge=0, le=MAX_TIMEOUT_S, description="Seconds from now; 0: for ever.")


@router.post(
    "/v1/sandboxes",
    status_code=201,
    responses=openapi.errors(403, 404, 409, 503),
    openapi_extra=openapi.body(CreateSandbox),
)
async def create_sandbox(request: Request) -> CreatedSandbox:
    """Create a sandbox from a template. The answer comes when it runs and its agent can be reached."""
    services, caller = context_of(request), caller_of(request)
    body = await read_model(request, CreateSandbox, services.settings.max_body_bytes)
    template = await _template(request, body)
    sandbox = await services.sandboxes.create(
        caller.organization_id,
        template,
        env=body.env_vars or {},
        timeout_seconds=body.timeout_seconds,
        internet_access=body.internet_access is not False,
        live=caller.live,
        public_ports=_ports(body.public_ports),
    )
    token = services.tokens.first(sandbox)
    return CreatedSandbox(
        **fields_of(request, services.settings, sandbox),
        auth_token=token.text,
        token_expires_at=rfc3339(token.expires_at, 6),
        request_id=context.request_id(),
    )


@router.get("/v1/sandboxes", responses=openapi.errors())
async def list_sandboxes(
    request: Request,
    limit: Annotated[
        int, Query(description=f"Default 100; values outside 1 … {PAGE_MAX} are clamped.")
    ] = 100,
    cursor: _Cursor = None,
    status: StatusFilter | None = None,
    region: str | None = None,
) -> SandboxList:
    """Your sandboxes, newest first."""
    services = context_of(request)
    limit = min(max(limit, 1), PAGE_MAX)
    after = None if cursor is None else _parse_cursor(cursor)
    rows: list[SandboxRow] = []
    if region in (None, "", services.settings.region):
        async with services.database.read() as connection:
            rows = await sandboxes.list_page(
                connection,
                caller_of(request).organization_id,
                now=time.time(),
                limit=limit + 1,  # one more shows whether there is another page
                after=after,
                status=None if status is None else SandboxStatus(status),
            )
    page = rows[:limit]
    return SandboxList(
        data=[SandboxFields(**fields_of(request, services.settings, row)) for row in page],
        has_more=len(rows) > limit,
        next_cursor=f"{page[-1].created_at!r}-{page[-1].id}" if len(rows) > limit else None,
        request_id=context.request_id(),
    )


@router.get("/v1/sandboxes/{sandbox_id}", responses=openapi.errors(404))
async def get_sandbox(request: Request, sandbox_id: SandboxId) -> SandboxObject:
    """One sandbox."""
    row = await find_sandbox(request, sandbox_id)
    fields = fields_of(request, context_of(request).settings, row)
    return SandboxObject(**fields, request_id=context.request_id())


@router.delete("/v1/sandboxes/{sandbox_id}", responses=openapi.errors(404))
async def delete_sandbox(request: Request, sandbox_id: SandboxId) -> SandboxDeleted:
    """Delete a sandbox, whatever its status is."""
    row = await find_sandbox(request, sandbox_id)
    await context_of(request).sandboxes.delete(row)
    return SandboxDeleted(id=row.id, request_id=context.request_id())


@router.put(
    "/v1/sandboxes/{sandbox_id}/timeout",
    responses=openapi.errors(404, 409),
    openapi_extra=openapi.body(SetTimeout),
)
async def set_timeout(request: Request, sandbox_id: SandboxId) -> TimeoutSet:
    """Give a sandbox a new timeout, counted from now. 0 removes the timeout."""
    services = context_of(request)
    body = await read_model(request, SetTimeout, services.settings.max_body_bytes)
    row = await find_sandbox(request, sandbox_id)
    _refuse_error(row, "given a new timeout")
    async with services.database.write() as connection:
        changed = await sandboxes.set_timeout(
            connection, row.id, now=time.time(), timeout_seconds=body.timeout_seconds or None
        )
    if changed is None:
        raise _not_found()
    return TimeoutSet(
        id=row.id,
        timeout_seconds=changed.timeout_seconds,
        expires_at=rfc3339_or_none(changed.expires_at),
        request_id=context.request_id(),
    )


@router.post("/v1/sandboxes/{sandbox_id}/token/refresh", responses=openapi.errors(404, 409))
async def refresh_token(request: Request, sandbox_id: SandboxId) -> RefreshedToken:
    """Get a new token for a sandbox. It expires later than all earlier ones, which stay valid until they expire."""
    services = context_of(request)
    found = await find_sandbox(request, sandbox_id)
    _refuse_error(found, "given a new token")
    if found.status == SandboxStatus.STOPPED:
        raise InvalidState(f"Sandbox {found.id} is stopped: start it first.")
    async with services.database.write() as connection:
        # Read it again, in this transaction: the tokens of two refreshes must not expire at the same time.
        row = await sandboxes.get(connection, found.id)
        if row is None:
            raise _not_found()
        token = services.tokens.next(row)
        await sandboxes.update(connection, row.id, token_expires_at=token.expires_at)
    return RefreshedToken(
        id=row.id,
        auth_token=token.text,
        token_expires_at=rfc3339(token.expires_at, 6),
        request_id=context.request_id(),
    )


async def find_sandbox(request: Request, sandbox_id: str) -> SandboxRow:
    """The caller's sandbox with this id.

    Raises:
        SandboxNotFound: it does not exist, was deleted, has expired, or belongs to another organisation.
    """
    async with context_of(request).database.read() as connection:
        row = await sandboxes.get(connection, sandbox_id)
    if row is None or row.organization_id != caller_of(request).organization_id or row.expired(time.time()):
        raise _not_found()
    return row


async def _template(request: Request, body: CreateSandbox) -> TemplateRow:
    reference = body.template_name if body.template_id is None else str(body.template_id)
    if not reference:
        raise UserError("Either template_id or template_name must be provided")
    async with context_of(request).database.read() as connection:
        row = await templates.find(connection, caller_of(request).organization_id, reference)
    if row is None:
        raise TemplateNotFound(
            f"Template {reference[:100]!r} does not exist or is not visible to your organization."
        )
    return row


def _parse_cursor(cursor: str) -> tuple[float, str]:
    parsed = _CURSOR.fullmatch(cursor)
    if parsed is None:
        raise UserError(
            "Field 'cursor' is not a cursor of this server: omit it to start from the first page."
        )
    return float(parsed[1]), parsed[2]


def _ports(field: list[int] | bool | None) -> tuple[int, ...] | bool:
    return tuple(sorted(set(field))) if isinstance(field, list) else field or ()


def _refuse_error(row: SandboxRow, participle: str) -> None:
    if row.status == SandboxStatus.ERROR:
        raise InvalidState(
            f"Sandbox {row.id} is in error ({row.reason or 'unknown'}) and cannot be {participle}: delete it."
        )


def _not_found() -> SandboxNotFound:
    # Clients look for these words: docs/reference/compatibility/sandboxes.md#unknown-sandboxes.
    return SandboxNotFound("Sandbox not found")
