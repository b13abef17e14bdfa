"""Code and commands that nobody waits for: the agent keeps them, so they outlive the server.

What clients rely on: docs/reference/compatibility/execution.md#background,
docs/reference/compatibility/gateway.md#commands.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse

from thawbox import guest, ids
from thawbox.errors import GuestFault
from thawbox.gateway.answers import answers
from thawbox.gateway.counters import counters_of
from thawbox.gateway.target import Target, parsed_request
from thawbox.guest import GuestError
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi
from thawbox.web.context import request_id

from . import languages
from .answers import CommandStarted, JobStarted
from .code import ExecuteCode
from .commands import RunCommand
from .execution import Runnable, agent_silent, agent_unavailable, in_folder, refusal
from .languages import Invocation

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 300
NAME_MAX = 200
LINE_MAX = 1000
"""Characters of the command that are kept for lists."""


class StartCode(ExecuteCode):
    """Code for the background."""

    name: str | None = Field(default=None, max_length=NAME_MAX)


class StartCommand(RunCommand):
    """A command for the background."""

    name: str | None = Field(default=None, max_length=NAME_MAX)


@router.post("/execute/background", openapi_extra=openapi.body(StartCode), responses=answers(JobStarted))
async def execute_in_background(request: Request) -> JSONResponse:
    """Start code and answer at once; ``/execute/processes`` has its state and output."""
    target, body = await parsed_request(request, StartCode)
    language = languages.named(body.language)
    invocation = await choose(target, language, body.code)
    meta = {"kind": "code", "name": body.name, "language": language, "command": invocation.argv[0]}
    return JSONResponse(_answer(body.name, await start(target, body, invocation, meta, DEFAULT_TIMEOUT_S)))


@router.post(
    "/commands/background",
    tags=["commands"],
    openapi_extra=openapi.body(StartCommand),
    responses=answers(CommandStarted),
)
async def run_in_background(request: Request) -> JSONResponse:
    """Start a command and answer at once; ``/execute/processes`` has its state and output."""
    target, body = await parsed_request(request, StartCommand)
    line = " ".join([body.command, *(body.args or ())])[:LINE_MAX]
    meta = {"kind": "command", "name": body.name, "language": None, "command": line}
    invocation = Invocation(tuple(body.argv))
    started = await start(target, body, invocation, meta, DEFAULT_TIMEOUT_S)
    answer: CommandStarted = {**_answer(body.name, started), "command": body.command}
    return JSONResponse(answer)


async def choose(target: Target, language: str, code: str) -> Invocation:
    """How to run ``code`` in this sandbox: the first candidate whose program it has, else the first of all.

    Raises:
        SandboxUnavailable: the agent does not answer.
    """
    candidates = languages.invocations(language, code)
    if len(candidates) == 1:
        return candidates[0]
    try:
        system = await guest.describe(target.endpoint, [one.argv[0] for one in candidates])
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    return next((one for one in candidates if one.argv[0] in system.programs), candidates[0])


async def start(
    target: Target,
    body: Runnable,
    invocation: Invocation,
    meta: dict[str, Any],
    default_timeout_s: float,
    job_id: str | None = None,
) -> tuple[str, int, float]:
    """Start a job; returns its id, its pid (0: it could not be started) and its start in seconds since 1970.

    Raises:
        UserError: the agent refuses it. RateLimited: the sandbox has too many jobs.
        SandboxSilent, SandboxUnavailable: see ``agent_silent``.
    """
    job = job_id or ids.alnum(20)

    async def attempt(cwd: str) -> tuple[int, float]:
        return await guest.start_job(
            target.endpoint,
            job,
            argv=invocation.argv,
            meta=meta,
            stdin=invocation.stdin,
            env=body.env,
            cwd=cwd,
            user=target.defaults.user,
            timeout=body.timeout or default_timeout_s,
            scratch=invocation.scratch,
            imports=invocation.imports,
        )

    try:
        pid, started = await in_folder(target, body.folder, attempt)
    except GuestFault as error:
        raise agent_silent(target, error) from error
    except GuestError as error:
        raise refusal(error) from error
    counters_of(target.sandbox.id).executions += 1
    return job, pid, started


def _answer(name: str | None, started: tuple[str, int, float]) -> JobStarted:
    job, pid, moment = started
    return {
        "process_id": f"proc_{job}",
        "execution_id": f"exec_{job}",
        "status": "running" if pid else "failed",
        "name": name,
        "pid": pid,
        "start_time": rfc3339(moment),
        "message": "Started in the background" if pid else "The program could not be started",
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
