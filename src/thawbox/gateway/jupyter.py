"""``/jupyter/*`` (contract E.2): which kernels a sandbox runs. There is none that this server starts."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from thawbox.http import context
from thawbox.timestamps import rfc3339

from .context import sandbox_of

router = APIRouter(tags=["code"])


@router.get("/jupyter/sessions")
@router.get("/jupyter/status", include_in_schema=False)
async def list_sessions(request: Request) -> JSONResponse:
    """The kernels of the sandbox."""
    await sandbox_of(request)
    return JSONResponse(
        {
            "sessions": [],
            "count": 0,
            "timestamp": rfc3339(time.time()),
            "request_id": context.request_id(),
        }
    )
