"""Code and commands that nobody waits for (contract E.2, E.3): the agent keeps them, so they outlive the server."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse

from thawbox import guest, ids
from thawbox.errors import GuestFault
from thawbox.gateway.sandbox.counters import counters_of
from thawbox.gateway.target import Target, parsed_request
from thawbox.guest import GuestError
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi

from . import languages
from .code import ExecuteCode
from .commands import RunCommand
from .execution import Runnable, broke_off, in_folder, refusal, unanswered
from .languages import Invocation

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 300
NAME_MAX = 200
SHOWN_MAX = 1000
"""Characters of the command that lists show."""


class StartCode(ExecuteCode):
    """Code for the background."""

    name: str | None = Field(default=None, max_length=NAME_MAX)


class StartCommand(RunCommand):
    """A command for the background."""

    name: str | None = Field(default=None, max_length=NAME_MAX)


@router.post("/execute/background", openapi_extra=openapi.body(StartCode))
async def execute_in_background(request: Request) -> JSONResponse:
    """Start code and answer at once; ``/execute/processes`` tells how it goes."""
    target, asked = await parsed_request(request, StartCode)
    language = languages.named(asked.language)
    way = await choose(target, language, asked.code)
    meta = {"kind": "code", "name": asked.name, "language": language, "command": way.argv[0]}
    return _answer(asked.name, None, await start(target, asked, way, meta, DEFAULT_TIMEOUT_S))


@router.post("/commands/background", tags=["commands"], openapi_extra=openapi.body(StartCommand))
async def run_in_background(request: Request) -> JSONResponse:
    """Start a command and answer at once; ``/execute/processes`` tells how it goes."""
    target, asked = await parsed_request(request, StartCommand)
    shown = " ".join([asked.command, *(asked.args or ())])[:SHOWN_MAX]
    meta = {"kind": "command", "name": asked.name, "language": None, "command": shown}
    way = Invocation(tuple(asked.argv))
    return _answer(asked.name, asked.command, await start(target, asked, way, meta, DEFAULT_TIMEOUT_S))


async def choose(target: Target, language: str, code: str) -> Invocation:
    """The way to run ``code`` in this sandbox; if it has none of the programs, one that will say so.

    Raises:
        SandboxUnavailable: the agent is silent.
    """
    ways = languages.invocations(language, code)
    if len(ways) > 1:
        try:
            system = await guest.describe(target.endpoint, [way.argv[0] for way in ways])
        except GuestFault as error:
            raise broke_off(target, error) from error
        return next((way for way in ways if way.argv[0] in system.programs), ways[0])
    return ways[0]


async def start(
    target: Target,
    asked: Runnable,
    way: Invocation,
    meta: dict[str, Any],
    default_timeout_s: float,
    job_id: str | None = None,
) -> tuple[str, int, float]:
    """Start a job; returns its id, its pid (0: it could not be started) and the time.

    Raises:
        UserError: it cannot be carried out; RateLimited: too many run already.
        SandboxSilent, SandboxUnavailable: see ``unanswered``.
    """
    job = job_id or ids.alnum(20)

    async def attempt(cwd: str) -> tuple[int, float]:
        return await guest.start_job(
            target.endpoint,
            job,
            argv=way.argv,
            meta=meta,
            stdin=way.stdin,
            env=asked.env,
            cwd=cwd,
            user=target.defaults.user,
            timeout=asked.timeout or default_timeout_s,
            scratch=way.scratch,
            imports=way.imports,
        )

    try:
        pid, started = await in_folder(target, asked.folder, attempt)
    except GuestFault as error:
        raise unanswered(target, error) from error
    except GuestError as error:
        raise refusal(error) from error
    counters_of(target.sandbox.id).executions += 1
    return job, pid, started


def _answer(name: str | None, command: str | None, started: tuple[str, int, float]) -> JSONResponse:
    job, pid, moment = started
    return JSONResponse(
        {
            "process_id": f"proc_{job}",
            "execution_id": f"exec_{job}",
            "status": "running" if pid else "failed",
            "name": name,
            **({} if command is None else {"command": command}),
            "pid": pid,
            "start_time": rfc3339(moment),
            "message": "Started in the background" if pid else "The program could not be started",
            "timestamp": rfc3339(time.time()),
            "request_id": context.request_id(),
        }
    )
