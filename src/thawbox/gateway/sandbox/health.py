"""``GET /health``: the gateway's own, or with a token the sandbox's.

What clients rely on: docs/reference/compatibility/gateway.md#health-and-information.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

import thawbox
from thawbox import guest
from thawbox.errors import GuestFault, SandboxUnavailable
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of, has_token
from thawbox.gateway.target import target_of
from thawbox.guest import GuestError
from thawbox.web.context import request_id

from .answers import HealthAnswer
from .features import features_of

router = APIRouter(tags=["health"])

PING_S = 4.0  # the clients give up after 5 s


@router.get("/health", responses=answers(HealthAnswer))
async def health(request: Request) -> JSONResponse:
    """Without a token: whether the gateway answers. With one: whether the agent in the sandbox does.

    Raises:
        SandboxUnavailable: the agent does not answer (503).
    """
    if has_token(request):
        answer = await _sandbox_health(request)
    else:
        answer = _health(context_of(request).started_at)
    return JSONResponse(answer)


async def _sandbox_health(request: Request) -> HealthAnswer:
    target = await target_of(request)
    try:
        await guest.ping(target.endpoint, timeout=PING_S)
        features = await features_of(target)
    except (GuestError, GuestFault) as error:
        raise SandboxUnavailable(f"The agent of sandbox {target.sandbox.id} does not answer.") from error
    return {
        **_health(target.sandbox.created_at),
        "vm_id": target.sandbox.id,
        "features": features,
        "active_streams": 0,
    }


def _health(since: float) -> HealthAnswer:
    seconds = max(0, int(time.time() - since))
    return {
        "status": "healthy",
        "agent": "thawbox",
        "version": thawbox.__version__,
        "uptime": duration_text(seconds),
        "uptime_seconds": seconds,
        "request_id": request_id(),
    }


def duration_text(seconds: int) -> str:
    """A duration in hours, minutes and seconds: 2h3m4s."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute}m{second}s"
