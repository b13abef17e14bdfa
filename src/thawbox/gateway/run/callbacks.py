"""``POST /execute/async`` (contract E.2, H-22): code that nobody waits for, and a call to a URL when it has ended.

What is owed is a row, so it is paid after a restart too. A call that is not answered with a success is repeated after
5 s, 30 s, 2, 10 and 30 minutes, and then given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse

from thawbox import guest, ids
from thawbox import log as logs
from thawbox.errors import GuestFault, RateLimited, ThawboxError
from thawbox.gateway.context import GatewayContext, context_of
from thawbox.gateway.target import parsed_request
from thawbox.guest import GuestError, Job
from thawbox.store import callbacks as rows
from thawbox.store import sandboxes
from thawbox.store.callbacks import CallbackRow
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi

from . import background, callback_target, languages
from .callback_target import Forbidden
from .code import ExecuteCode
from .processes import status_of, stderr_of

router = APIRouter(tags=["code"])
log = logs.get(__name__)

DEFAULT_TIMEOUT_S = 3600
OUTPUT_LIMIT = 1 << 20
"""Bytes of each of stdout and stderr that a callback carries."""
OWED_MAX = 100
"""Callbacks that one sandbox may be owed."""
DELAYS_S = (5.0, 30.0, 120.0, 600.0, 1800.0)
"""After each attempt that failed; after the next one there is none."""
TICK_S = 0.5
BATCH = 20
"""New rows looked at in one tick."""
BUSY_MAX = 100
"""Rows that are attended to side by side."""
LOOK_MAX_S = 10.0
"""Longest time between two looks at an execution that runs."""
CALL_S = 15.0
STARTING_S = 90.0
"""Until a row without a job counts as one whose job was never started."""
ANSWER_MAX = 64 * 1024
HEADERS_MAX = 32
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_OURS = re.compile(
    r"(host|content-length|content-type|transfer-encoding|connection|te|trailer|upgrade|expect|proxy-.*|x-hopx-.*)",
    re.IGNORECASE,
)


class ExecuteAsync(ExecuteCode):
    """Code, and whom to tell."""

    callback_url: str = Field(min_length=1)
    callback_headers: dict[str, str] | None = Field(default=None, max_length=HEADERS_MAX)
    callback_signature_secret: str | None = Field(default=None, max_length=1024)

    @field_validator("callback_headers")
    @classmethod
    def proper_headers(cls, headers: dict[str, str] | None) -> dict[str, str] | None:
        """Names and values that HTTP knows, none of those that are ours to set."""
        for name, value in (headers or {}).items():
            if not _TOKEN.fullmatch(name) or _OURS.fullmatch(name):
                raise ValueError(f"{name[:50]!r} cannot be set")
            if len(value) > 4096 or not value.isprintable() or not value.isascii():
                raise ValueError(f"the value of {name} must be printable ASCII")
        return headers


@router.post("/execute/async", openapi_extra=openapi.body(ExecuteAsync))
async def execute_async(request: Request) -> JSONResponse:
    """Start code, answer at once, and call ``callback_url`` when it has ended."""
    target, asked = await parsed_request(request, ExecuteAsync)
    language = languages.named(asked.language)
    parts = context_of(request)
    callback_target.check_url(asked.callback_url, callback_target.networks(parts.settings.callback_allow))
    way = await background.choose(target, language, asked.code)
    now = time.time()
    row = CallbackRow(
        id=ids.alnum(20),
        sandbox_id=target.sandbox.id,
        url=asked.callback_url,
        headers=asked.callback_headers or {},
        secret=asked.callback_signature_secret,
        next_at=now + 1,
        created_at=now,
    )
    async with parts.database.write() as connection:
        if await rows.count(connection, target.sandbox.id) >= OWED_MAX:
            raise RateLimited(
                f"{OWED_MAX} callbacks of this sandbox are under way: wait for some.", retry_after=5
            )
        await rows.insert(connection, row)
    meta = {"kind": "async", "name": None, "language": language, "command": way.argv[0]}
    try:
        await background.start(target, asked, way, meta, DEFAULT_TIMEOUT_S, row.id)
    except ThawboxError:
        async with parts.database.write() as connection:
            await rows.delete(connection, row.id)
        raise
    return JSONResponse(
        {
            "execution_id": f"exec_{row.id}",
            "process_id": f"proc_{row.id}",
            "status": "queued",
            "callback_url": asked.callback_url,
            "message": "Started; the callback follows when it has ended",
            "timestamp": rfc3339(now),
            "request_id": context.request_id(),
        }
    )


@asynccontextmanager
async def delivering(parts: GatewayContext) -> AsyncIterator[None]:
    """Within this block callbacks are delivered."""
    async with httpx.AsyncClient(
        verify=_trusted(), trust_env=False, timeout=httpx.Timeout(CALL_S), headers={"User-Agent": "thawbox"}
    ) as http:
        worker = asyncio.create_task(_deliver_for_ever(parts, http))
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


def _trusted() -> ssl.SSLContext:
    """The public authorities, this machine's own, and those that SSL_CERT_FILE or SSL_CERT_DIR names."""
    trusted = httpx.create_ssl_context()
    trusted.load_default_certs()
    return trusted


async def _deliver_for_ever(parts: GatewayContext, http: httpx.AsyncClient) -> None:
    busy: set[str] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                async with parts.database.read() as connection:
                    due = await rows.due(connection, time.time(), BATCH + len(busy))
            except Exception:
                log.exception("callbacks_broke")
                due = []
            for row in due:
                if row.id not in busy and len(busy) < BUSY_MAX:
                    busy.add(row.id)
                    group.create_task(_attend(parts, http, row, busy))
            await asyncio.sleep(TICK_S)


async def _attend(parts: GatewayContext, http: httpx.AsyncClient, row: CallbackRow, busy: set[str]) -> None:
    try:
        await attend(parts, http, row)
    except Exception:  # a fault of ours must not cost the others theirs
        log.exception("callback_broke", callback_id=row.id)
        await asyncio.sleep(DELAYS_S[0])
    finally:
        busy.discard(row.id)


async def attend(parts: GatewayContext, http: httpx.AsyncClient, row: CallbackRow) -> None:
    """See whether the execution has ended, and if so, call; once."""
    if row.body is None:
        body = await _body(parts, row)
        if body is None:
            age = time.time() - row.created_at
            await _set(parts, row, next_at=time.time() + min(LOOK_MAX_S, max(TICK_S, age / 10)))
            return
        # Stored before the first call: the sandbox may be gone before the last.
        await _set(parts, row, body=body)
    else:
        body = row.body
    try:
        async with asyncio.timeout(CALL_S):
            status = await call(parts, http, row, body.encode())
        problem = None if 200 <= status < 300 else f"it answered {status}"
    except (httpx.HTTPError, OSError, TimeoutError, Forbidden) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem is None:
        async with parts.database.write() as connection:
            await rows.delete(connection, row.id)
    elif row.attempts >= len(DELAYS_S):
        log.warning("callback_given_up", callback_id=row.id, sandbox_id=row.sandbox_id, problem=problem)
        async with parts.database.write() as connection:
            await rows.delete(connection, row.id)
    else:
        log.info("callback_failed", callback_id=row.id, attempt=row.attempts + 1, problem=problem)
        await _set(parts, row, attempts=row.attempts + 1, next_at=time.time() + DELAYS_S[row.attempts])


async def call(parts: GatewayContext, http: httpx.AsyncClient, row: CallbackRow, body: bytes) -> int:
    """POST ``body``; returns the status. Connects to the very address that was checked; follows nothing.

    Raises:
        Forbidden: the name means an address that must not be asked. httpx.HTTPError, OSError: no answer.
    """
    url = httpx.URL(row.url)
    address = await callback_target.resolve(url, callback_target.networks(parts.settings.callback_allow))
    stamp = str(int(time.time()))
    headers = {
        **row.headers,
        "Host": url.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "X-HOPX-Timestamp": stamp,
    }
    if row.secret is not None:
        headers["X-HOPX-Signature"] = signature(row.secret, stamp, body)
    async with http.stream(
        "POST",
        url.copy_with(host=str(address)),
        content=body,
        headers=headers,
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
        follow_redirects=False,
    ) as answer:
        size = 0
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            if size > ANSWER_MAX:
                break
        return answer.status_code


def signature(secret: str, stamp: str, body: bytes) -> str:
    """``sha256=`` and the HMAC of time stamp and body, one after the other."""
    return "sha256=" + hmac.new(secret.encode(), stamp.encode() + body, hashlib.sha256).hexdigest()


async def _body(parts: GatewayContext, row: CallbackRow) -> str | None:
    """What to tell; None while there is nothing to tell yet."""
    async with parts.database.read() as connection:
        sandbox = await sandboxes.get(connection, row.sandbox_id)
    if sandbox is None or sandbox.expired(time.time()):
        return _lost(row, "The sandbox was deleted before the execution had ended")
    if sandbox.status == "error":
        return _lost(row, f"The sandbox died: {sandbox.reason}")
    try:
        endpoint = await parts.sandboxes.endpoint(sandbox)
        job = await guest.read_job(endpoint, row.id)
        if job.ended is None:
            return None
        return _told(row, await guest.read_job(endpoint, row.id, output_limit=OUTPUT_LIMIT))
    except GuestError as error:
        # A row is written before its job is started.
        young = time.time() - row.created_at < STARTING_S
        return None if young else _lost(row, f"The execution is not known any more: {error.message}")
    except (GuestFault, ThawboxError):
        return None  # paused, stopped or just dying: a later look will tell


def _told(row: CallbackRow, job: Job) -> str:
    status = "timeout" if job.timed_out else "completed" if job.code == 0 else "failed"
    body: dict[str, Any] = {
        "execution_id": f"exec_{row.id}",
        "status": status,
        "success": job.code == 0,
        "stdout": job.stdout,
        "stderr": stderr_of(job),
        "exit_code": job.code,
        "execution_time": job.seconds,
        "timestamp": rfc3339(job.ended or time.time()),
    }
    if job.code != 0:
        word = {True: "The time was over", False: f"It ended with exit code {job.code}"}[job.timed_out]
        body["error"] = "It was killed" if status_of(job) == "killed" else word
    return json.dumps(body)


def _lost(row: CallbackRow, error: str) -> str:
    return json.dumps(
        {
            "execution_id": f"exec_{row.id}",
            "status": "failed",
            "success": False,
            "stdout": "",
            "stderr": "",
            "exit_code": -1,
            "execution_time": 0.0,
            "timestamp": rfc3339(time.time()),
            "error": error,
        }
    )


async def _set(parts: GatewayContext, row: CallbackRow, **fields: object) -> None:
    async with parts.database.write() as connection:
        await rows.update(connection, row.id, **fields)
