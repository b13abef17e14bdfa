"""Calls the URLs of ``POST /execute/async`` when their executions have ended.

A call that does not succeed is repeated after 5 s, 30 s, 2, 10 and 30 minutes, and then given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Unpack

import httpx

from thawbox import guest
from thawbox import log as logs
from thawbox.errors import GuestFault, ThawboxError
from thawbox.guest import GuestError, Job
from thawbox.sandboxes.serving import ServingContext
from thawbox.store import callbacks as rows
from thawbox.store import sandboxes
from thawbox.store.callbacks import CallbackChanges, CallbackRow
from thawbox.store.enums import SandboxStatus
from thawbox.util.timestamps import rfc3339

from . import callback_target
from .callback_target import AddressNotAllowed
from .processes import status_of, stderr_of

log = logs.get(__name__)

OUTPUT_LIMIT = 1 << 20
"""Bytes of each of stdout and stderr that a callback carries."""
DELAYS_S = (5.0, 30.0, 120.0, 600.0, 1800.0)
"""Wait after each failed attempt. After one attempt more than these the callback is given up."""
TICK_S = 0.5
BATCH = 20
"""New rows that one tick starts."""
BUSY_MAX = 100
"""Rows that are processed at the same time."""
POLL_MAX_S = 10.0
"""Longest time between two checks of a running execution."""
CALL_S = 15.0
STARTING_S = 90.0
"""Age at which the job of a row counts as never started if the agent does not know it."""
ANSWER_MAX = 64 * 1024
"""Bytes of the answer that are read before the connection is closed."""


@asynccontextmanager
async def delivering(context: ServingContext) -> AsyncIterator[None]:
    """Deliver callbacks during this block."""
    async with httpx.AsyncClient(
        verify=_ssl_context(),
        trust_env=False,
        timeout=httpx.Timeout(CALL_S),
        headers={"User-Agent": "thawbox"},
    ) as http:
        worker = asyncio.create_task(_deliver_forever(context, http))
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


def _ssl_context() -> ssl.SSLContext:
    """Trusts the public authorities, this machine's own, and those that SSL_CERT_FILE or SSL_CERT_DIR names."""
    trusted = httpx.create_ssl_context()
    trusted.load_default_certs()
    return trusted


async def _deliver_forever(context: ServingContext, http: httpx.AsyncClient) -> None:
    busy: set[str] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                async with context.database.read() as connection:
                    due = await rows.due(connection, time.time(), BATCH + len(busy))
            except Exception:
                log.exception("callbacks_broke")
                due = []
            for row in due:
                if row.id not in busy and len(busy) < BUSY_MAX:
                    busy.add(row.id)
                    group.create_task(_process_safely(context, http, row, busy))
            await asyncio.sleep(TICK_S)


async def _process_safely(
    context: ServingContext, http: httpx.AsyncClient, row: CallbackRow, busy: set[str]
) -> None:
    try:
        await _process(context, http, row)
    except Exception:  # one broken row must not stop the others
        log.exception("callback_broke", callback_id=row.id)
        await asyncio.sleep(DELAYS_S[0])
    finally:
        busy.discard(row.id)


async def _process(context: ServingContext, http: httpx.AsyncClient, row: CallbackRow) -> None:
    """Call the URL once if the execution has ended; else set the time of the next check."""
    if row.body is None:
        body = await _callback_body(context, row)
        if body is None:
            age = time.time() - row.created_at
            await _set(context, row, next_at=time.time() + min(POLL_MAX_S, max(TICK_S, age / 10)))
            return
        # Stored before the first call: the sandbox may be deleted before the last.
        await _set(context, row, body=body)
    else:
        body = row.body
    try:
        async with asyncio.timeout(CALL_S):
            status = await call(context, http, row, body.encode())
        problem = None if 200 <= status < 300 else f"it answered {status}"
    except (httpx.HTTPError, OSError, TimeoutError, AddressNotAllowed) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem is None:
        async with context.database.write() as connection:
            await rows.delete(connection, row.id)
    elif row.attempts >= len(DELAYS_S):
        log.warning("callback_given_up", callback_id=row.id, sandbox_id=row.sandbox_id, problem=problem)
        async with context.database.write() as connection:
            await rows.delete(connection, row.id)
    else:
        log.info("callback_failed", callback_id=row.id, attempt=row.attempts + 1, problem=problem)
        await _set(context, row, attempts=row.attempts + 1, next_at=time.time() + DELAYS_S[row.attempts])


async def call(context: ServingContext, http: httpx.AsyncClient, row: CallbackRow, body: bytes) -> int:
    """POST ``body``; returns the status. Connects to the address that was checked; follows no redirect.

    Raises:
        AddressNotAllowed: the name has an address that is not allowed. httpx.HTTPError, OSError: no answer.
    """
    url = httpx.URL(row.url)
    address = await callback_target.resolve(url, callback_target.networks(context.settings.callback_allow))
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
    """``sha256=`` and the HMAC in hexadecimal of time stamp and body, one after the other."""
    return "sha256=" + hmac.new(secret.encode(), stamp.encode() + body, hashlib.sha256).hexdigest()


async def _callback_body(context: ServingContext, row: CallbackRow) -> str | None:
    """The JSON to send; None while the execution runs, or its sandbox cannot be reached."""
    async with context.database.read() as connection:
        sandbox = await sandboxes.get(connection, row.sandbox_id)
    if sandbox is None or sandbox.expired(time.time()):
        return _lost_body(row, "The sandbox was deleted before the execution had ended")
    if sandbox.status == SandboxStatus.ERROR:
        return _lost_body(row, f"The sandbox died: {sandbox.reason}")
    try:
        endpoint = await context.sandboxes.endpoint(sandbox)
        job = await guest.read_job(endpoint, row.id)
        if job.ended is None:
            return None
        return _ended_body(row, await guest.read_job(endpoint, row.id, output_limit=OUTPUT_LIMIT))
    except GuestError as error:
        # A row is written before its job is started.
        young = time.time() - row.created_at < STARTING_S
        return None if young else _lost_body(row, f"The execution is no longer known: {error.message}")
    except (GuestFault, ThawboxError):
        return None  # paused, stopped or just dying: a later check finds out which


def _ended_body(row: CallbackRow, job: Job) -> str:
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
        reason = "It timed out" if job.timed_out else f"It ended with exit code {job.code}"
        body["error"] = "It was killed" if status_of(job) == "killed" else reason
    return json.dumps(body)


def _lost_body(row: CallbackRow, error: str) -> str:
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


async def _set(context: ServingContext, row: CallbackRow, **changes: Unpack[CallbackChanges]) -> None:
    async with context.database.write() as connection:
        await rows.update(connection, row.id, **changes)
