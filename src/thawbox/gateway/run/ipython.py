"""``POST /execute/ipython`` and ``/jupyter/*`` (contract E.2): code in a kernel that remembers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from pydantic import field_validator
from starlette.responses import JSONResponse

from thawbox.errors import GuestFault, TooLarge
from thawbox.gateway.context import GatewayContext, context_of
from thawbox.gateway.target import Target, parsed_request, target_of
from thawbox.guest import Completed, GuestError, kernel
from thawbox.util.timestamps import rfc3339
from thawbox.web import context

from . import execution, languages, rich
from .execution import Runnable, broke_off, completed, end_of, not_started, without_nul

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 60
CODE_MAX = 512 * 1024
"""Bytes of a cell; the agent takes it in one request."""
RICH_LIMIT = 16 * 1024 * 1024
PATIENCE_S = 60.0
"""How long a kernel that was just started may take until it listens."""
NO_KERNEL = (
    "This template has no IPython kernel: add 'pip3 install ipykernel' to its recipe, and 'kernel: true' "
    "to have one that runs from the start."
)
CRASHED = 1
PLOTLY = "application/vnd.plotly.v1+json"

Say = Callable[[str, bytes], Awaitable[None]]
"""``say(stream, piece)``: stdout or stderr."""


async def _keep_quiet(_stream: str, _piece: bytes) -> None:
    """Nobody listens before the end."""


class ExecuteCell(Runnable):
    """A cell."""

    code: str

    @field_validator("code")
    @classmethod
    def code_without_nul(cls, text: str) -> str:
        """Python takes none."""
        without_nul(text)
        return text


@router.post("/execute/ipython")
async def execute_cell(request: Request) -> JSONResponse:
    """Run a cell. Variables stay for the next one; cells of one sandbox run one after the other. Always a 200."""
    target, asked = await parsed_request(request, ExecuteCell)
    done, shown = await run_cell(context_of(request), target, asked)
    answer = end_of(done, asked.timeout or DEFAULT_TIMEOUT_S)
    return JSONResponse(
        {
            **answer,
            "language": "python",
            **shown.fields(),
            "timestamp": rfc3339(time.time()),
            "request_id": context.request_id(),
        }
    )


async def run_cell(
    parts: GatewayContext, target: Target, asked: ExecuteCell, say: Say = _keep_quiet
) -> tuple[Completed, rich.Rich]:
    """Run a cell to its end; ``say`` hears its output as it comes, too. Whatever happens inside is a result.

    Raises:
        TooLarge: the cell.
        UserError: the request cannot be carried out.
        SandboxUnavailable: the sandbox's agent is silent.
    """
    if len(asked.code.encode()) > CODE_MAX:
        raise TooLarge(f"Field 'code' is longer than {CODE_MAX} bytes: write it to a file and %run that.")
    told: list[bytes] = []
    done = await completed(parts, target, asked.folder, lambda cwd: _run(target, asked, cwd, told, say))
    return done, rich.read(b"\n".join(told))


async def _run(target: Target, asked: ExecuteCell, cwd: str, told: list[bytes], say: Say) -> Completed:
    """Run the cell; starts the kernel if there is none. Rich results go into ``told``."""
    deadline = time.monotonic() + PATIENCE_S
    started = False
    while True:
        try:
            return await _run_in_kernel(target, asked, told, say)
        except GuestError as error:
            if error.code != "NOT_LISTENING" or time.monotonic() > deadline:
                raise
        if started:
            await asyncio.sleep(0.05)
        done = await kernel.start_kernel(target.endpoint, user=target.defaults.user, cwd=cwd, wait=False)
        started = True
        if done.exit_code == kernel.NO_IPYKERNEL:
            return not_started(NO_KERNEL)
        if done.pid == 0:
            return not_started(languages.missing("python"))
        if done.exit_code != 0:
            return done


async def _run_in_kernel(target: Target, asked: ExecuteCell, told: list[bytes], say: Say) -> Completed:
    events = kernel.run_cell(
        target.endpoint,
        user=target.defaults.user,
        sandbox=target.sandbox.id,
        code=asked.code,
        timeout=asked.timeout or DEFAULT_TIMEOUT_S,
        env=asked.env or {},
    )
    output = {"stdout": bytearray(), "stderr": bytearray()}
    room = RICH_LIMIT
    end: dict[str, Any] = {}
    async with aclosing(events):
        async for event in events:
            match event.get("type"):
                case "stdout" | "stderr" as stream:
                    kept = output[stream]
                    data = str(event.get("text")).encode("utf-8", "replace")
                    data = data[: execution.OUTPUT_LIMIT - len(kept)]
                    kept += data
                    if data:
                        await say(stream, data)
                case "result" | "display" as kind:
                    line = json.dumps({"kind": kind, "data": _known(event.get("data"))}).encode()
                    if len(line) <= room:
                        room -= len(line)
                        told.append(line)
                case "end":
                    end = event
                case other:
                    raise GuestError("NONSENSE", f"the kernel's owner sent an event of type {other!r:.40}")
    if not end:
        output["stderr"] += b"the kernel ended and took this cell with it; the next one gets a new kernel\n"
    return _completed(output, end)


def _known(data: Any) -> Any:
    """A kernel's bundle with plotly's own type as what clients know."""
    if isinstance(data, dict) and PLOTLY in data:
        return {**data, "application/json": data[PLOTLY]}
    return data


def _completed(output: dict[str, bytearray], end: dict[str, Any]) -> Completed:
    status, seconds = end.get("status"), end.get("seconds")
    timed_out = status == "timeout"
    return Completed(
        exit_code=0 if status == "ok" else execution.TIMED_OUT if timed_out else CRASHED,
        signal=None,
        stdout=bytes(output["stdout"]),
        stderr=bytes(output["stderr"]),
        timed_out=timed_out,
        truncated=end.get("truncated") is True,
        seconds=float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else 0.0,
        pid=0,
    )


@router.get("/jupyter/sessions")
@router.get("/jupyter/status", include_in_schema=False)
async def list_sessions(request: Request) -> JSONResponse:
    """The sandbox's kernel, if one runs."""
    target = await target_of(request)
    sessions = await _sessions(target)
    return JSONResponse(
        {
            "sessions": sessions,
            "count": len(sessions),
            "timestamp": rfc3339(time.time()),
            "request_id": context.request_id(),
        }
    )


async def _sessions(target: Target) -> list[dict[str, Any]]:
    try:
        status = await kernel.kernel_status(target.endpoint, user=target.defaults.user)
    except (GuestError, GuestFault) as error:
        if isinstance(error, GuestFault):
            raise broke_off(target, error) from error
        return []
    if status is None or status.get("execution_state") not in ("starting", "idle", "busy"):
        return []
    connections, active = status.get("connections"), status.get("last_activity")
    return [
        {
            "kernel_id": str(status.get("kernel_id"))[:64],
            "execution_state": status["execution_state"],
            "connections": connections if isinstance(connections, int) and 0 <= connections < 10**6 else 0,
            "last_activity": rfc3339(
                float(active) if isinstance(active, int | float) and 0 <= active < 1e11 else 0.0
            ),
        }
    ]
