"""``POST /execute/ipython`` and ``/jupyter/*``: code in a kernel that remembers.

What clients rely on: docs/reference/compatibility/execution.md#ipython.
"""

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
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of
from thawbox.gateway.target import Target, parsed_request, target_of
from thawbox.guest import Completed, GuestError, kernel
from thawbox.sandboxes.serving import ServingContext
from thawbox.util.timestamps import rfc3339
from thawbox.web.context import request_id

from . import execution, languages, rich
from .answers import CodeAnswer, KernelSession, KernelSessions
from .execution import Runnable, agent_unavailable, end_fields, not_started, run_to_end, without_nul

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 60
CODE_MAX = 512 * 1024
"""Bytes of a cell; the agent takes it in one request."""
RICH_LIMIT = 16 * 1024 * 1024
KERNEL_START_S = 60.0
"""Longest time until a new kernel listens."""
NO_KERNEL = (
    "This template has no IPython kernel: add 'pip3 install ipykernel' to its recipe, and 'kernel: true' "
    "to have one that runs from the start."
)
CRASHED = 1
"""Exit code of a cell that raised or whose kernel ended."""
PLOTLY = "application/vnd.plotly.v1+json"

OnOutput = Callable[[str, bytes], Awaitable[None]]
"""Called with ``stdout`` or ``stderr`` and a piece of that stream."""


async def _ignore_output(_stream: str, _piece: bytes) -> None:
    """For callers that need the output only at the end."""


class ExecuteCell(Runnable):
    """A cell."""

    code: str

    @field_validator("code")
    @classmethod
    def code_without_nul(cls, text: str) -> str:
        """Python does not accept NUL."""
        without_nul(text)
        return text


@router.post("/execute/ipython", responses=answers(CodeAnswer))
async def execute_cell(request: Request) -> JSONResponse:
    """Run a cell. Variables stay for the next one; cells of one sandbox run one after the other. Always a 200."""
    target, body = await parsed_request(request, ExecuteCell)
    result, outputs = await run_cell(context_of(request), target, body)
    answer: CodeAnswer = {
        **end_fields(result, body.timeout or DEFAULT_TIMEOUT_S),
        "language": "python",
        **outputs.fields(),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


async def run_cell(
    context: ServingContext, target: Target, body: ExecuteCell, on_output: OnOutput = _ignore_output
) -> tuple[Completed, rich.RichResults]:
    """Run a cell to its end; ``on_output`` gets its output as it comes. Whatever happens inside is a result.

    Raises:
        TooLarge: the cell has more than ``CODE_MAX`` bytes.
        UserError, SandboxSilent, SandboxUnavailable: see ``run_to_end``.
    """
    if len(body.code.encode()) > CODE_MAX:
        raise TooLarge(f"Field 'code' is longer than {CODE_MAX} bytes: write it to a file and %run that.")
    lines: list[bytes] = []
    result = await run_to_end(
        context, target, body.folder, lambda cwd: _run(target, body, cwd, lines, on_output)
    )
    return result, rich.read(b"\n".join(lines))


async def _run(
    target: Target, body: ExecuteCell, cwd: str, lines: list[bytes], on_output: OnOutput
) -> Completed:
    """Run the cell; starts the kernel if there is none. Rich results go into ``lines``."""
    deadline = time.monotonic() + KERNEL_START_S
    started = False
    while True:
        try:
            return await _run_in_kernel(target, body, lines, on_output)
        except GuestError as error:
            if error.code != "NOT_LISTENING" or time.monotonic() > deadline:
                raise
        if started:
            await asyncio.sleep(0.05)
        result = await kernel.start_kernel(target.endpoint, user=target.defaults.user, cwd=cwd, wait=False)
        started = True
        if result.exit_code == kernel.NO_IPYKERNEL:
            return not_started(NO_KERNEL)
        if result.pid == 0:
            return not_started(languages.missing("python"))
        if result.exit_code != 0:
            return result


async def _run_in_kernel(
    target: Target, body: ExecuteCell, lines: list[bytes], on_output: OnOutput
) -> Completed:
    events = kernel.run_cell(
        target.endpoint,
        user=target.defaults.user,
        sandbox=target.sandbox.id,
        code=body.code,
        timeout=body.timeout or DEFAULT_TIMEOUT_S,
        env=body.env or {},
    )
    output = {"stdout": bytearray(), "stderr": bytearray()}
    left = RICH_LIMIT
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
                        await on_output(stream, data)
                case "result" | "display" as kind:
                    line = json.dumps({"kind": kind, "data": _with_plotly(event.get("data"))}).encode()
                    if len(line) <= left:
                        left -= len(line)
                        lines.append(line)
                case "end":
                    end = event
                case other:
                    raise GuestError("NONSENSE", f"the kernel's owner sent an event of type {other!r:.40}")
    if not end:
        output["stderr"] += b"the kernel ended and took this cell with it; the next one gets a new kernel\n"
    return _completed(output, end)


def _with_plotly(data: Any) -> Any:
    """A kernel's bundle, with plotly's own type under the type that clients know."""
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


@router.get("/jupyter/sessions", responses=answers(KernelSessions))
@router.get("/jupyter/status", include_in_schema=False)
async def list_sessions(request: Request) -> JSONResponse:
    """The sandbox's kernel, if one runs."""
    target = await target_of(request)
    sessions = await _sessions(target)
    answer: KernelSessions = {
        "sessions": sessions,
        "count": len(sessions),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


async def _sessions(target: Target) -> list[KernelSession]:
    try:
        status = await kernel.kernel_status(target.endpoint, user=target.defaults.user)
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    except GuestError:
        return []
    state = None if status is None else status.get("execution_state")
    if status is None or state not in ("starting", "idle", "busy"):
        return []
    connections, active = status.get("connections"), status.get("last_activity")
    return [
        {
            "kernel_id": str(status.get("kernel_id"))[:64],
            "execution_state": state,
            "connections": connections if isinstance(connections, int) and 0 <= connections < 10**6 else 0,
            "last_activity": rfc3339(
                float(active) if isinstance(active, int | float) and 0 <= active < 1e11 else 0.0
            ),
        }
    ]
