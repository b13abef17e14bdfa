"""``POST /execute`` (contract E.2): code in, output and rich results out."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import field_validator
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.gateway.context import context_of
from thawbox.gateway.target import Target, parsed_request
from thawbox.guest import Completed
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi

from . import execution, languages, rich
from .execution import Runnable, completed, end_of, not_started, without_nul
from .languages import Invocation

router = APIRouter(tags=["code"])

DEFAULT_TIMEOUT_S = 60
RICH_LIMIT = 16 * 1024 * 1024
"""Bytes of rich results of one execution; what is more is left out, and stderr says so."""


class ExecuteCode(Runnable):
    """Some code."""

    code: str
    language: str = "python"

    @field_validator("code")
    @classmethod
    def code_without_nul(cls, text: str) -> str:
        """No interpreter takes it."""
        without_nul(text)
        return text


@router.post("/execute", openapi_extra=openapi.body(ExecuteCode))
@router.post("/execute/rich", include_in_schema=False)
async def execute_code(request: Request) -> JSONResponse:
    """Run code to its end. Whatever it does is a 200: ``success`` and ``exit_code`` tell."""
    target, asked = await parsed_request(request, ExecuteCode)
    language = languages.named(asked.language)
    done = await completed(
        context_of(request), target, asked.folder, lambda cwd: _run(target, asked, language, cwd)
    )
    return JSONResponse(_answer(asked, language, done))


async def _run(target: Target, asked: ExecuteCode, language: str, cwd: str) -> Completed:
    for way in languages.invocations(language, asked.code):
        done = await _run_as(target, asked, way, cwd)
        if done.pid != 0 or done.exit_code != languages.NOT_STARTED:
            break
    if languages.lacks(language, done.pid, done.exit_code, done.stderr):
        return not_started(languages.missing(language))
    return done


async def _run_as(target: Target, asked: ExecuteCode, way: Invocation, cwd: str) -> Completed:
    return await guest.run(
        target.endpoint,
        argv=way.argv,
        stdin=way.stdin,
        env=asked.env,
        cwd=cwd,
        user=target.defaults.user,
        timeout=asked.timeout or DEFAULT_TIMEOUT_S,
        output_limit=execution.OUTPUT_LIMIT,
        result_limit=RICH_LIMIT if way.rich else None,
        scratch=way.scratch,
        imports=way.imports,
    )


def _answer(asked: ExecuteCode, language: str, done: Completed) -> dict[str, Any]:
    shown = rich.read(done.value)
    answer = end_of(done, asked.timeout or DEFAULT_TIMEOUT_S)
    if shown.cut and not done.timed_out:  # else the last one may be half written
        answer["stderr"] += f"\n[results were left out: at most {RICH_LIMIT} bytes are kept]\n"
    return {
        **answer,
        "language": language,
        **shown.fields(),
        "timestamp": rfc3339(time.time()),
        "request_id": context.request_id(),
    }
