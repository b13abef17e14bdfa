"""``POST /commands/run`` (contract E.3)."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.gateway.context import context_of
from thawbox.gateway.target import Target, parsed_request
from thawbox.guest import Completed
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi

from . import execution
from .execution import Runnable, completed, end_of, without_nul

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
        """As for the command."""
        for arg in args or ():
            without_nul(arg)
        return args

    @property
    def argv(self) -> list[str]:
        """What is run."""
        return ["/bin/sh", "-c", self.command] if self.args is None else [self.command, *self.args]


@router.post("/commands/run", openapi_extra=openapi.body(RunCommand))
async def run_command(request: Request) -> JSONResponse:
    """Run a command to its end. Whatever it does is a 200: its exit code tells."""
    target, asked = await parsed_request(request, RunCommand)
    done = await completed(context_of(request), target, asked.folder, lambda cwd: _run(target, asked, cwd))
    return JSONResponse(_answer(asked, done))


async def _run(target: Target, asked: RunCommand, cwd: str) -> Completed:
    return await guest.run(
        target.endpoint,
        argv=asked.argv,
        env=asked.env,
        cwd=cwd,
        user=target.defaults.user,
        timeout=asked.timeout or DEFAULT_TIMEOUT_S,
        output_limit=execution.OUTPUT_LIMIT,
    )


def _answer(asked: RunCommand, done: Completed) -> dict[str, Any]:
    return {
        **end_of(done, asked.timeout or DEFAULT_TIMEOUT_S),
        "command": asked.command,
        "pid": done.pid,
        "timestamp": rfc3339(time.time()),
        "request_id": context.request_id(),
    }
