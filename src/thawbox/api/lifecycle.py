"""``/v1/sandboxes/{id}/pause|resume|stop|start``. A body is neither needed nor read.

What clients rely on: docs/reference/compatibility/sandboxes.md#pause-resume-stop-start.
"""

from __future__ import annotations

from typing import cast

from fastapi import APIRouter, Request

from thawbox.store.sandboxes import SandboxRow
from thawbox.web import context, openapi
from thawbox.web.addresses import sandbox_url

from .context import context_of
from .sandbox_models import StateChanged
from .sandboxes import SandboxId, find_sandbox
from .statuses import SettledStatus

router = APIRouter(tags=["sandboxes"])


@router.post("/v1/sandboxes/{sandbox_id}/pause", responses=openapi.errors(404, 409))
async def pause_sandbox(request: Request, sandbox_id: SandboxId) -> StateChanged:
    """Pause a running sandbox: its programs stop where they are, memory and files stay. Its timeout keeps running."""
    row = await find_sandbox(request, sandbox_id)
    return _changed(request, await context_of(request).sandboxes.pause(row))


@router.post("/v1/sandboxes/{sandbox_id}/resume", responses=openapi.errors(404, 409, 503))
async def resume_sandbox(request: Request, sandbox_id: SandboxId) -> StateChanged:
    """Resume a paused sandbox: its programs go on where they were."""
    row = await find_sandbox(request, sandbox_id)
    return _changed(request, await context_of(request).sandboxes.resume(row))


@router.post("/v1/sandboxes/{sandbox_id}/stop", responses=openapi.errors(404, 409, 503))
async def stop_sandbox(request: Request, sandbox_id: SandboxId) -> StateChanged:
    """Stop a running or paused sandbox: its programs end, its files stay."""
    row = await find_sandbox(request, sandbox_id)
    return _changed(request, await context_of(request).sandboxes.stop_sandbox(row))


@router.post("/v1/sandboxes/{sandbox_id}/start", responses=openapi.errors(404, 409, 503))
async def start_sandbox(request: Request, sandbox_id: SandboxId) -> StateChanged:
    """Start a stopped sandbox with the files that it had. The start command of its template runs again."""
    row = await find_sandbox(request, sandbox_id)
    return _changed(request, await context_of(request).sandboxes.start_sandbox(row))


def _changed(request: Request, row: SandboxRow) -> StateChanged:
    return StateChanged(
        id=row.id,
        status=cast(SettledStatus, row.status),
        public_host=sandbox_url(request, context_of(request).settings, row.id),
        request_id=context.request_id(),
    )
