"""``GET /health`` and ``GET /metrics``."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

import thawbox
from thawbox import metrics
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi

router = APIRouter(tags=["system"])


class Health(BaseModel):
    """The control plane answers."""

    status: Literal["ok"] = "ok"
    version: str
    timestamp: str
    request_id: str


@router.get("/health", responses=openapi.open_errors(500))
async def health(_request: Request) -> Health:
    """Check that the control plane answers. Needs no key."""
    return Health(
        version=thawbox.__version__, timestamp=rfc3339(time.time()), request_id=context.request_id()
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **openapi.errors()},
)
async def prometheus(_request: Request) -> Response:
    """The metrics of the server in Prometheus' text format. Needs a key."""
    text, kind = metrics.exposition()
    return Response(text, headers={"content-type": kind})
