"""``POST /execute``: code in, output and rich results out.

What clients rely on: docs/reference/compatibility/execution.md#execute.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from pydantic import field_validator
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of
from thawbox.gateway.target import Target, parsed_request
from thawbox.guest import Completed
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi
from thawbox.web.context import request_id

from . import execution, languages, rich
from .answers import CodeAnswer
from .execution import Runnable, end_fields, not_started, run_to_end, without_nul
from .languages import Invocation

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 60
RICH_LIMIT = 16 * 1024 * 1024
"""Bytes of rich results of one execution; the rest is left out, and stderr says so."""


class ExecuteCode(Runnable):
    """Code, and its language."""

    code: str
    language: str = "python"

    @field_validator("code")
    @classmethod
    def code_without_nul(cls, text: str) -> str:
        """No interpreter accepts NUL."""
        without_nul(text)
        return text


@router.post("/execute", openapi_extra=openapi.body(ExecuteCode), responses=answers(CodeAnswer))
@router.post("/execute/rich", include_in_schema=False)
async def execute_code(request: Request) -> JSONResponse:
    """Run code to its end. Whatever it does is a 200: see ``success`` and ``exit_code``."""
    target, body = await parsed_request(request, ExecuteCode)
    language = languages.named(body.language)
    result = await run_to_end(
        context_of(request), target, body.folder, lambda cwd: _run(target, body, language, cwd)
    )
    return JSONResponse(_answer(body, language, result))


async def _run(target: Target, body: ExecuteCode, language: str, cwd: str) -> Completed:
    for invocation in languages.invocations(language, body.code):
        result = await _run_as(target, body, invocation, cwd)
        if result.pid != 0 or result.exit_code != languages.NOT_STARTED:
            break
    if languages.lacks(language, result.pid, result.exit_code, result.stderr):
        return not_started(languages.missing(language))
    return result


async def _run_as(target: Target, body: ExecuteCode, invocation: Invocation, cwd: str) -> Completed:
    return await guest.run(
        target.endpoint,
        argv=invocation.argv,
        stdin=invocation.stdin,
        env=body.env,
        cwd=cwd,
        user=target.defaults.user,
        timeout=body.timeout or DEFAULT_TIMEOUT_S,
        output_limit=execution.OUTPUT_LIMIT,
        result_limit=RICH_LIMIT if invocation.rich else None,
        scratch=invocation.scratch,
        imports=invocation.imports,
    )


def _answer(body: ExecuteCode, language: str, result: Completed) -> CodeAnswer:
    outputs = rich.read(result.value)
    ended = end_fields(result, body.timeout or DEFAULT_TIMEOUT_S)
    if outputs.cut and not result.timed_out:  # else the last one may be half written
        ended["stderr"] += f"\n[results were left out: at most {RICH_LIMIT} bytes are kept]\n"
    return {
        **ended,
        "language": language,
        **outputs.fields(),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
