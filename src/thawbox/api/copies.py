"""``/v1/sandboxes/{id}/fork`` and ``/snapshot``: copies of a sandbox as it is now."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field, field_validator

from thawbox.templates.fields import template_name
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi
from thawbox.web.bodies import Body, read_model, usable_environment

from .context import context_of
from .sandbox_models import ForkedSandboxes, NewSandbox, fields_of
from .sandboxes import MAX_TIMEOUT_S, SandboxId, find_sandbox
from .templates import TemplateDetail, detail_of

router = APIRouter(tags=["sandboxes"])

MAX_COPIES = 16


class Fork(Body):
    """All fields may be absent, and the body as well."""

    count: int = Field(default=1, ge=1, le=MAX_COPIES, description="How many copies.")
    timeout_seconds: int | None = Field(default=None, ge=1, le=MAX_TIMEOUT_S, description="Null: for ever.")
    env_vars: dict[str, str] | None = Field(default=None, description="On top of the source's environment.")

    @field_validator("env_vars")
    @classmethod
    def usable(cls, env_vars: dict[str, str] | None) -> dict[str, str] | None:
        """Only what can be an environment."""
        return usable_environment(env_vars)


class Snapshot(Body):
    """What the new template is called."""

    name: str = Field(description="As for builds: unique in your organisation.")
    description: str = Field(default="", max_length=10_000)


@router.post(
    "/v1/sandboxes/{sandbox_id}/fork",
    status_code=201,
    responses=openapi.errors(403, 404, 409, 503),
    openapi_extra=openapi.body(Fork),
)
async def fork_sandbox(request: Request, sandbox_id: SandboxId) -> ForkedSandboxes:
    """Copies of a running or paused sandbox that run on by themselves: all of them, or none."""
    parts = context_of(request)
    without = "transfer-encoding" not in request.headers and request.headers.get("content-length", "0") == "0"
    asked = Fork() if without else await read_model(request, Fork, parts.settings.max_body_bytes)
    row = await find_sandbox(request, sandbox_id)
    made = await parts.sandboxes.fork(
        row, asked.count, env=asked.env_vars or {}, timeout_seconds=asked.timeout_seconds
    )
    tokens = [parts.tokens.first(copy) for copy in made]
    return ForkedSandboxes(
        data=[
            NewSandbox(
                **fields_of(request, parts.settings, copy),
                auth_token=token.text,
                token_expires_at=rfc3339(token.expires_at, 6),
            )
            for copy, token in zip(made, tokens, strict=True)
        ],
        request_id=context.request_id(),
    )


@router.post(
    "/v1/sandboxes/{sandbox_id}/snapshot",
    status_code=201,
    responses=openapi.errors(404, 409, 503),
    openapi_extra=openapi.body(Snapshot),
)
async def save_sandbox(request: Request, sandbox_id: SandboxId) -> TemplateDetail:
    """A template that is as the running or paused sandbox is now, without what it was given at its creation."""
    parts = context_of(request)
    asked = await read_model(request, Snapshot, parts.settings.max_body_bytes)
    row = await find_sandbox(request, sandbox_id)
    made = await parts.sandboxes.save(row, template_name(asked.name, "Field 'name'"), asked.description)
    return detail_of(made, parts.settings)
