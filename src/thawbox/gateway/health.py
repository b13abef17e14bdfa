"""``GET /health``: the gateway's own, or with a token the sandbox's (contract E.1)."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

import thawbox
from thawbox.errors import GuestFault, SandboxUnavailable
from thawbox.guest import client
from thawbox.guest.client import GuestError
from thawbox.http import context

from .context import context_of, has_token, sandbox_of

router = APIRouter(tags=["health"])

PING_S = 4.0  # the clients give up after 5 s

FEATURES: dict[str, Any] = {
    "code_execution": False,
    "file_operations": True,
    "terminal_access": True,
    "websocket_streaming": False,
    "rich_output": False,
    "background_jobs": False,
    "ipython_kernel": False,
    "system_metrics": False,
    "desktop": False,
    "languages": [],
    "commands": True,
}
"""What this gateway really serves; clients look before they ask."""


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Without a token: that the gateway answers. With one: that the agent in the sandbox does.

    Raises:
        SandboxUnavailable: the agent does not answer (503).
    """
    since = context_of(request).started_at
    body: dict[str, Any] = {}
    if has_token(request):
        row = await sandbox_of(request)
        endpoint = await context_of(request).sandboxes.endpoint(row)
        try:
            await client.ping(endpoint, timeout=PING_S)
        except (GuestError, GuestFault) as error:
            raise SandboxUnavailable(f"The agent of sandbox {row.id} does not answer.") from error
        since = row.created_at
        body = {"vm_id": row.id, "features": FEATURES, "active_streams": 0}
    seconds = max(0, int(time.time() - since))
    return JSONResponse(
        {
            "status": "healthy",
            "agent": "thawbox",
            "version": thawbox.__version__,
            "uptime": _spoken(seconds),
            "uptime_seconds": seconds,
            **body,
            "request_id": context.request_id(),
        }
    )


def _spoken(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute}m{second}s"
