"""Server-sent events: changes of sandboxes and templates, and the resources that one sandbox uses.

Whose choice the paths are: docs/reference/compatibility/sandboxes.md#events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, StreamingResponse

from thawbox import guest
from thawbox.errors import GuestFault, SandboxNotFound, ThawboxError
from thawbox.guest import GuestError
from thawbox.sandboxes.events import Event
from thawbox.store import templates
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi

from .context import caller_of, context_of
from .sandbox_models import SandboxFields, fields_of
from .sandboxes import SandboxId, find_sandbox
from .templates import item_of

router = APIRouter(tags=["events"])

KEEP_ALIVE_S = 15.0
TEMPLATES_EVERY_S = 1.0
METRICS_EVERY_S = 2.0


_STREAM: openapi.Responses = {
    200: {
        "description": "Server-sent events. Comments keep the connection alive.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
# The response class of the operations below is JSONResponse, because their errors are JSON.


class EventStream(StreamingResponse):
    """An answer that goes on until the client or the server ends it."""

    media_type = "text/event-stream"


@router.get("/v1/sandboxes/events/stream", responses=_STREAM | openapi.errors(), response_class=JSONResponse)
@router.get("/v1/sandboxes/stream", include_in_schema=False)
async def stream_sandboxes(request: Request) -> EventStream:
    """Changes of your sandboxes from now on: ``sandbox.created``, ``.updated``, ``.deleted``."""
    return _stream(_sandbox_events(request))


@router.get("/v1/templates/stream", responses=_STREAM | openapi.errors(), response_class=JSONResponse)
async def stream_templates(request: Request) -> EventStream:
    """Changes of the templates that you can use: ``template.updated``, ``.deleted``."""
    return _stream(_template_events(request))


@router.get(
    "/v1/sandboxes/{sandbox_id}/metrics/stream",
    responses=_STREAM | openapi.errors(404, 409, 503),
    response_class=JSONResponse,
)
async def stream_metrics(request: Request, sandbox_id: SandboxId) -> EventStream:
    """The resources that a running sandbox uses, every two seconds, as long as it runs."""
    row = await find_sandbox(request, sandbox_id)
    await context_of(request).sandboxes.endpoint(
        row
    )  # raises here, where the answer can still have an error status
    return _stream(_metrics_events(request, row))


def _stream(events: AsyncIterator[str]) -> EventStream:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(events, headers=headers)


def _message(data: dict[str, Any], *, event: str | None = None) -> str:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data, separators=(',', ':'))}\n\n"


async def _sandbox_events(request: Request) -> AsyncIterator[str]:
    with context_of(request).events.subscribe(caller_of(request).organization_id) as subscription:
        yield ": listening\n\n"
        while (event := await subscription.next(KEEP_ALIVE_S)) != "over":
            if event is None:
                yield ": still here\n\n"
            elif isinstance(event, Event):
                yield _message(_sandbox(request, event), event=f"sandbox.{event.kind}")


def _sandbox(request: Request, event: Event) -> dict[str, Any]:
    if event.kind == "deleted":
        return {"id": event.row.id, "object": "sandbox", "status": "deleted"}
    return SandboxFields(**fields_of(request, context_of(request).settings, event.row)).model_dump()


async def _template_events(request: Request) -> AsyncIterator[str]:
    """Polls the table of templates, because builds, deletions and the command line all write to it."""
    closing = context_of(request).events.closing
    seen = await _templates(request)
    last_sent = time.monotonic()
    yield ": listening\n\n"
    while not await _wait(closing, TEMPLATES_EVERY_S):
        now = await _templates(request)
        for number, row in now.items():
            if seen.get(number) != row:
                last_sent = time.monotonic()
                yield _message(item_of(row).model_dump(), event="template.updated")
        for number in seen.keys() - now.keys():
            last_sent = time.monotonic()
            deleted = {"id": str(number), "object": "template", "status": "deleted"}
            yield _message(deleted, event="template.deleted")
        seen = now
        if time.monotonic() - last_sent > KEEP_ALIVE_S:
            last_sent = time.monotonic()
            yield ": still here\n\n"


async def _templates(request: Request) -> dict[int, TemplateRow]:
    async with context_of(request).database.read() as connection:
        visible = await templates.list_visible(connection, caller_of(request).organization_id)
    return {row.id: row for row in visible}


async def _metrics_events(request: Request, row: SandboxRow) -> AsyncIterator[str]:
    services = context_of(request)
    while True:
        try:
            row = await find_sandbox(request, row.id)
            endpoint = await services.sandboxes.endpoint(row)
            yield _message(_metrics(row, await guest.usage(endpoint, timeout=METRICS_EVERY_S)))
        except SandboxNotFound:
            return
        except GuestError:
            return
        except GuestFault:
            yield ": no answer\n\n"
        except ThawboxError:  # paused, stopped or in error
            return
        if await _wait(services.events.closing, METRICS_EVERY_S):
            return


def _metrics(row: SandboxRow, usage: dict[str, Any]) -> dict[str, Any]:
    """The part of the sandbox's own ``/metrics/snapshot`` that the agent measures."""
    uptime = round(max(0.0, time.time() - row.created_at), 3)
    return {
        "uptime_seconds": uptime,
        "system": {
            "cpu": {"load": usage["load"], "cores": usage["cpus"]},
            "memory": _filled(usage["memory_total"], usage["memory_used"]),
            "disk": _filled(usage["disk_total"], usage["disk_used"]),
            "uptime": uptime,
        },
        "process": {"count": usage["processes"]},
        "timestamp": rfc3339(time.time(), 3),
    }


def _filled(total: int, used: int) -> dict[str, int | float]:
    share = round(100 * used / total, 2) if total > 0 else 0.0
    return {"total": total, "used": used, "free": max(0, total - used), "usage_percent": share}


async def _wait(closing: asyncio.Event, seconds: float) -> bool:
    """Wait for ``seconds``, or until the server stops. Returns whether it stops."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closing.wait(), seconds)
    return closing.is_set()
