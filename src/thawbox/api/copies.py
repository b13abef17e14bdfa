"""``/v1/sandboxes/{id}/fork`` and ``/snapshot``: copy a sandbox as it is now, to sandboxes or to a template."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, field_validator

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


class ForkRequest(Body):
    """All fields may be absent, and the body as well."""

    model_config = ConfigDict(title="Fork")

    count: int = Field(default=1, ge=1, le=MAX_COPIES, description="The number of copies.")
    timeout_seconds: int | None = Field(default=None, ge=1, le=MAX_TIMEOUT_S, description="Null: for ever.")
    env_vars: dict[str, str] | None = Field(
        default=None, description="Added to the environment of the source."
    )

    @field_validator("env_vars")
    @classmethod
    def usable(cls, env_vars: dict[str, str] | None) -> dict[str, str] | None:
        """Check that names and values can be environment variables."""
        return usable_environment(env_vars)


class SaveRequest(Body):
    """The name of the new template."""

    model_config = ConfigDict(title="Snapshot")

    name: str = Field(description="As for builds: unique in your organisation.")
    description: str = Field(default="", max_length=10_000)


@router.post(
    "/v1/sandboxes/{sandbox_id}/fork",
    status_code=201,
    responses=openapi.errors(403, 404, 409, 503),
    openapi_extra=openapi.body(ForkRequest),
)
async def fork_sandbox(request: Request, sandbox_id: SandboxId) -> ForkedSandboxes:
    """Copy a running or paused sandbox. Each copy runs on by itself; you get all copies, or none."""
    services = context_of(request)
    body = await _fork_request(request, services.settings.max_body_bytes)
    row = await find_sandbox(request, sandbox_id)
    copies = await services.sandboxes.fork(
        row, body.count, env=body.env_vars or {}, timeout_seconds=body.timeout_seconds
    )
    tokens = [services.tokens.first(copy) for copy in copies]
    return ForkedSandboxes(
        data=[
            NewSandbox(
                **fields_of(request, services.settings, copy),
                auth_token=token.text,
                token_expires_at=rfc3339(token.expires_at, 6),
            )
            for copy, token in zip(copies, tokens, strict=True)
        ],
        request_id=context.request_id(),
    )


@router.post(
    "/v1/sandboxes/{sandbox_id}/snapshot",
    status_code=201,
    responses=openapi.errors(404, 409, 503),
    openapi_extra=openapi.body(SaveRequest),
)
async def save_sandbox(request: Request, sandbox_id: SandboxId) -> TemplateDetail:
    """Save a running or paused sandbox, as it is now, as a template. The `env_vars` of its creation stay out."""
    services = context_of(request)
    body = await read_model(request, SaveRequest, services.settings.max_body_bytes)
    row = await find_sandbox(request, sandbox_id)
    template = await services.sandboxes.save(row, template_name(body.name, "Field 'name'"), body.description)
    return detail_of(template, services.settings)


async def _fork_request(request: Request, max_bytes: int) -> ForkRequest:
    has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
    return await read_model(request, ForkRequest, max_bytes) if has_body else ForkRequest()
