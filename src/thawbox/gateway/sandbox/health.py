"""``GET /health``: the gateway's own, or with a token the sandbox's (contract E.1)."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

import thawbox
from thawbox import guest
from thawbox.errors import GuestFault, SandboxUnavailable
from thawbox.gateway.context import context_of, has_token
from thawbox.gateway.target import target_of
from thawbox.guest import GuestError
from thawbox.web import context

from .features import features_of

router = APIRouter(tags=["health"])

PING_S = 4.0  # the clients give up after 5 s


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Without a token: that the gateway answers. With one: that the agent in the sandbox does.

    Raises:
        SandboxUnavailable: the agent does not answer (503).
    """
    since = context_of(request).started_at
    body: dict[str, Any] = {}
    if has_token(request):
        target = await target_of(request)
        try:
            await guest.ping(target.endpoint, timeout=PING_S)
            features = await features_of(target)
        except (GuestError, GuestFault) as error:
            raise SandboxUnavailable(f"The agent of sandbox {target.sandbox.id} does not answer.") from error
        since = target.sandbox.created_at
        body = {"vm_id": target.sandbox.id, "features": features, "active_streams": 0}
    seconds = max(0, int(time.time() - since))
    return JSONResponse(
        {
            "status": "healthy",
            "agent": "thawbox",
            "version": thawbox.__version__,
            "uptime": spoken(seconds),
            "uptime_seconds": seconds,
            **body,
            "request_id": context.request_id(),
        }
    )


def spoken(seconds: int) -> str:
    """A duration as people say it: 2h3m4s."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute}m{second}s"
