"""``POST /commands/run``.

What clients rely on: docs/reference/compatibility/gateway.md#commands.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of
from thawbox.gateway.target import Target, parsed_request
from thawbox.guest import Completed
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi
from thawbox.web.context import request_id

from . import execution
from .answers import CommandAnswer
from .execution import Runnable, end_fields, run_to_end, without_nul

router = APIRouter(tags=["commands"])

DEFAULT_TIMEOUT_S = 30


class RunCommand(Runnable):
    """With ``args``: a program and its arguments. Without: a line for /bin/sh."""

    command: str = Field(min_length=1)
    args: list[str] | None = None

    @field_validator("command")
    @classmethod
    def command_without_nul(cls, text: str) -> str:
        """The kernel's strings end at NUL."""
        without_nul(text)
        return text

    @field_validator("args")
    @classmethod
    def args_without_nul(cls, args: list[str] | None) -> list[str] | None:
        """See ``command_without_nul``."""
        for arg in args or ():
            without_nul(arg)
        return args

    @property
    def argv(self) -> list[str]:
        """The program and its arguments."""
        return ["/bin/sh", "-c", self.command] if self.args is None else [self.command, *self.args]


@router.post("/commands/run", openapi_extra=openapi.body(RunCommand), responses=answers(CommandAnswer))
async def run_command(request: Request) -> JSONResponse:
    """Run a command to its end. Whatever it does is a 200: see ``exit_code``."""
    target, body = await parsed_request(request, RunCommand)
    result = await run_to_end(context_of(request), target, body.folder, lambda cwd: _run(target, body, cwd))
    return JSONResponse(_answer(body, result))


async def _run(target: Target, body: RunCommand, cwd: str) -> Completed:
    return await guest.run(
        target.endpoint,
        argv=body.argv,
        env=body.env,
        cwd=cwd,
        user=target.defaults.user,
        timeout=body.timeout or DEFAULT_TIMEOUT_S,
        output_limit=execution.OUTPUT_LIMIT,
    )


def _answer(body: RunCommand, result: Completed) -> CommandAnswer:
    return {
        **end_fields(result, body.timeout or DEFAULT_TIMEOUT_S),
        "command": body.command,
        "pid": result.pid,
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
