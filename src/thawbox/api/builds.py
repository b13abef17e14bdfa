"""Template builds: submit, status, log.

Key sets are strict, clients crash on more: docs/reference/compatibility/templates-build.md#the-answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from thawbox.builder import log
from thawbox.errors import BuildNotFound
from thawbox.store import builds, enums
from thawbox.store.builds import BuildRow
from thawbox.store.enums import TemplateStatus
from thawbox.store.rows import MAX_ID
from thawbox.templates.dialects import parse_recipe
from thawbox.util.timestamps import rfc3339, rfc3339_or_none
from thawbox.web import context, openapi
from thawbox.web.bodies import read_json

from .context import caller_of, context_of
from .statuses import AnyTemplateStatus

router = APIRouter(tags=["builds"])

POLL_S = 0.25
KEEP_ALIVE_S = 15.0

BuildId = Annotated[str, Path(description="The `build_id` from the answer to the build request.")]
_ID = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


class BuildAccepted(BaseModel):
    """The build is in the queue. Its id is the template's id."""

    build_id: str
    template_id: str
    status: Literal[TemplateStatus.BUILDING] = TemplateStatus.BUILDING
    logs_url: str
    request_id: str


class BuildStatus(BaseModel):
    """The progress of the newest build of a template."""

    build_id: str
    template_id: str
    status: AnyTemplateStatus
    progress: int = Field(ge=0, le=100)
    current_step: str | None
    started_at: str
    completed_at: str | None
    error_message: str | None
    build_duration_ms: int | None
    request_id: str


class BuildLogs(BaseModel):
    """The text of the log from an offset on. It ends with a whole line."""

    logs: str
    offset: int = Field(description="Send this with the next request. It counts characters of the log.")
    status: AnyTemplateStatus
    complete: bool = Field(description="Whether the build has ended and `logs` reaches the end of the log.")
    request_id: str


_RECIPE: dict[str, Any] = {
    "type": "object",
    "description": "A recipe. `name` or `alias`, and a base image, are required. Unknown fields are ignored.",
    "properties": {
        "name": {"type": "string", "description": "Unique per organization; also `alias`."},
        "alias": {"type": "string"},
        "from_image": {
            "type": "string",
            "description": "The base image; also `base_image`, or a `from` step at the beginning.",
        },
        "cpu": {"type": "integer", "default": 2, "minimum": 1, "maximum": 64},
        "memory": {"type": "integer", "default": 2048, "minimum": 128, "description": "MB"},
        "diskGB": {"type": "integer", "default": 10, "minimum": 1},
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {
                        "type": "string",
                        "description": "from, apt, run, copy, env, workdir, user or cmd, in capitals or not",
                    }
                },
            },
        },
        "skipCache": {"type": "boolean", "default": False},
        "update": {"type": "boolean", "default": False, "description": "Replace the template of this name."},
        "startCmd": {"type": ["string", "null"]},
        "readyCmd": {"type": ["object", "string", "null"]},
        "registry_credentials": {"type": ["object", "null"]},
        "warm": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Python modules that warm interpreters import before the freeze; not in HopX.",
        },
        "kernel": {
            "type": "boolean",
            "default": False,
            "description": "Start an IPython kernel before the freeze; not in HopX.",
        },
    },
    "example": {
        "alias": "my-python-template",
        "cpu": 2,
        "memory": 2048,
        "diskGB": 10,
        "steps": [
            {"type": "from", "image": "python:3.11"},
            {"type": "run", "command": "pip install numpy"},
        ],
    },
}


@router.post(
    "/v1/templates/build",
    status_code=202,
    responses=openapi.errors(409),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _RECIPE}}}},
)
async def build_template(request: Request) -> BuildAccepted:
    """Build a template from a recipe. The answer comes at once; follow the status or the log."""
    settings = context_of(request).settings
    body = await read_json(request, settings.max_body_bytes)
    recipe = await asyncio.to_thread(parse_recipe, body, settings=settings)
    template_id = await context_of(request).builder.submit(caller_of(request).organization_id, recipe)
    return BuildAccepted(
        build_id=str(template_id),
        template_id=str(template_id),
        logs_url=f"/v1/templates/build/{template_id}/logs",
        request_id=context.request_id(),
    )


@router.get("/v1/templates/build/{build_id}/status", responses=openapi.errors(404))
async def build_status(request: Request, build_id: BuildId) -> BuildStatus:
    """The progress of a build."""
    build = await _find(request, build_id)
    started = build.started_at or build.created_at
    return BuildStatus(
        build_id=build_id,
        template_id=build_id,
        status=_public(build),
        progress=build.progress,
        current_step=build.current_step,
        started_at=rfc3339(started),
        completed_at=rfc3339_or_none(build.completed_at),
        error_message=build.error_message,
        build_duration_ms=(
            None if build.completed_at is None else max(1, round((build.completed_at - started) * 1000))
        ),
        request_id=context.request_id(),
    )


@router.get(
    "/v1/templates/build/{build_id}/logs",
    response_class=JSONResponse,
    responses={
        200: {
            "model": BuildLogs,
            "description": "JSON. With `Accept: text/event-stream`: a stream of `log` events, then one `done` event.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **openapi.errors(404),
    },
)
async def build_logs(
    request: Request,
    build_id: BuildId,
    offset: Annotated[
        str,
        Query(
            description="The `offset` of the previous answer. Anything that is not a number counts as 0.",
            json_schema_extra={"default": "0"},
        ),
    ] = "0",
) -> Response:
    """The log of a build from an offset on, or as a stream of events."""
    build = await _find(request, build_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        events = _events(request, build)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    # The status was read before the text. So if it shows that the build has ended, the text is complete.
    path = context_of(request).builder.log_path(build)
    text, end = await asyncio.to_thread(log.read_text, path, _offset(offset))
    logs = BuildLogs(
        logs=text, offset=end, status=_public(build), complete=build.ended, request_id=context.request_id()
    )
    return JSONResponse(logs.model_dump())


async def _events(request: Request, build: BuildRow) -> AsyncIterator[str]:
    """Server-sent events, until the build has ended and all of its log was sent. Comments keep the connection alive."""
    database = context_of(request).database
    path = context_of(request).builder.log_path(build)
    position, quiet_since = 0, time.monotonic()
    yield ": log of the build\n\n"  # so that the client sees at once that it is connected
    while True:
        async with database.read() as connection:
            build = await builds.get(connection, build.id) or build
        entries, position = await asyncio.to_thread(log.read_entries, path, position)
        for entry in entries:
            data = {"level": entry.level, "message": entry.message, "timestamp": entry.timestamp}
            yield f"event: log\ndata: {json.dumps(data)}\n\n"
        if build.ended:
            yield f"event: done\ndata: {json.dumps({'status': build.status})}\n\n"
            return
        if entries:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > KEEP_ALIVE_S:
            quiet_since = time.monotonic()
            yield ": still building\n\n"
        await asyncio.sleep(POLL_S)


async def _find(request: Request, build_id: str) -> BuildRow:
    """The newest build of the caller's template with this id, even if the template was deleted.

    Raises:
        BuildNotFound: the caller has no such build.
    """
    build = None
    if _ID.fullmatch(build_id) and int(build_id) <= MAX_ID:
        async with context_of(request).database.read() as connection:
            build = await builds.newest(connection, int(build_id))
    if build is None or build.organization_id != caller_of(request).organization_id:
        raise BuildNotFound(
            f"Build {build_id[:100]!r} does not exist or is not visible to your organization."
        )
    return build


def _public(build: BuildRow) -> AnyTemplateStatus:
    """The status for clients, which know three values. A queued build counts as building."""
    if build.status == enums.BuildStatus.ACTIVE:
        return TemplateStatus.ACTIVE
    failed = build.status == enums.BuildStatus.FAILED
    return TemplateStatus.FAILED if failed else TemplateStatus.BUILDING


def _offset(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) else 0
