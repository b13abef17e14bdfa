"""``POST /execute/async``: code that nobody waits for, and a call to a URL when it has ended.

Its fields, and what is signed: docs/reference/compatibility/execution.md#callbacks.

A pending callback is a row of the database, so a restart does not lose it; ``callback_delivery`` makes the call.
"""

from __future__ import annotations

import re
import time

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse

from thawbox import ids
from thawbox.errors import RateLimited, ThawboxError
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of
from thawbox.gateway.target import parsed_request
from thawbox.store import callbacks as rows
from thawbox.store.callbacks import CallbackRow
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi
from thawbox.web.context import request_id

from . import background, callback_target, languages
from .answers import CallbackPromised
from .code import ExecuteCode

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 3600
PENDING_MAX = 100
"""Pending callbacks of one sandbox."""
HEADERS_MAX = 32
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_RESERVED = re.compile(
    r"(host|content-length|content-type|transfer-encoding|connection|te|trailer|upgrade|expect|proxy-.*|x-hopx-.*)",
    re.IGNORECASE,
)


class ExecuteAsync(ExecuteCode):
    """Code, and the URL to call when it has ended."""

    callback_url: str = Field(min_length=1)
    callback_headers: dict[str, str] | None = Field(default=None, max_length=HEADERS_MAX)
    callback_signature_secret: str | None = Field(default=None, max_length=1024)

    @field_validator("callback_headers")
    @classmethod
    def proper_headers(cls, headers: dict[str, str] | None) -> dict[str, str] | None:
        """Names and values that HTTP allows, without the headers that the server sets itself."""
        for name, value in (headers or {}).items():
            if not _TOKEN.fullmatch(name) or _RESERVED.fullmatch(name):
                raise ValueError(f"{name[:50]!r} cannot be set")
            if len(value) > 4096 or not value.isprintable() or not value.isascii():
                raise ValueError(f"the value of {name} must be printable ASCII")
        return headers


@router.post("/execute/async", openapi_extra=openapi.body(ExecuteAsync), responses=answers(CallbackPromised))
async def execute_async(request: Request) -> JSONResponse:
    """Start code, answer at once, and call ``callback_url`` when it has ended."""
    target, body = await parsed_request(request, ExecuteAsync)
    language = languages.named(body.language)
    context = context_of(request)
    callback_target.check_url(body.callback_url, callback_target.networks(context.settings.callback_allow))
    invocation = await background.choose(target, language, body.code)
    now = time.time()
    row = CallbackRow(
        id=ids.alnum(20),
        sandbox_id=target.sandbox.id,
        url=body.callback_url,
        headers=body.callback_headers or {},
        secret=body.callback_signature_secret,
        next_at=now + 1,
        created_at=now,
    )
    async with context.database.write() as connection:
        if await rows.count(connection, target.sandbox.id) >= PENDING_MAX:
            raise RateLimited(
                f"{PENDING_MAX} callbacks of this sandbox are under way: wait for some.", retry_after=5
            )
        await rows.insert(connection, row)
    meta = {"kind": "async", "name": None, "language": language, "command": invocation.argv[0]}
    try:
        await background.start(target, body, invocation, meta, DEFAULT_TIMEOUT_S, row.id)
    except ThawboxError:
        async with context.database.write() as connection:
            await rows.delete(connection, row.id)
        raise
    answer: CallbackPromised = {
        "execution_id": f"exec_{row.id}",
        "process_id": f"proc_{row.id}",
        "status": "queued",
        "callback_url": body.callback_url,
        "message": "Started; the callback follows when it has ended",
        "timestamp": rfc3339(now),
        "request_id": request_id(),
    }
    return JSONResponse(answer)
