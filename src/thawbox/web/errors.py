"""How errors look on the wire: one flat envelope for everything that is not a success.

What clients rely on: docs/reference/compatibility/conventions.md#errors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from thawbox.errors import MethodNotAllowed, RouteNotFound, ThawboxError, UnexpectedFault, UserError
from thawbox.util.timestamps import rfc3339

from . import context


class ErrorEnvelope(BaseModel):
    """The body of every answer that is not a success."""

    error: str = Field(description="Short title, the same for every error of this kind.")
    message: str = Field(description="One sentence: what is wrong, and what to do about it.")
    code: str = Field(description="For programs, upper case with underscores.")
    request_id: str
    retry_after: int | None = Field(
        default=None, description="Seconds to wait before the next try, where one makes sense."
    )
    details: dict[str, Any] | None = Field(default=None, description="Absent rather than null.")
    timestamp: str | None = Field(default=None, description="Gateway only.")
    path: str | None = Field(default=None, description="Gateway only: the file that the error is about.")


def response(error: ThawboxError, *, gateway: bool, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """``error`` as an answer. The gateway's have a timestamp, and the path that the error is about."""
    body: dict[str, Any] = {
        "error": error.title,
        "message": error.message,
        "code": error.code,
        "request_id": context.request_id(),
    }
    details = dict(error.details or {})
    if gateway:
        body["timestamp"] = rfc3339(time.time())
        if isinstance(details.get("path"), str):
            body["path"] = details.pop("path")
    if details:
        body["details"] = details
    all_headers = dict(headers or {})
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
        all_headers["Retry-After"] = str(error.retry_after)
    return JSONResponse(body, status_code=error.status, headers=all_headers)


def install(app: FastAPI, *, gateway: bool) -> None:
    """Answer the framework's own errors with the envelope. The middleware answers ThawboxError."""

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return response(_from_http(request, error), gateway=gateway, headers=dict(error.headers or {}))

    async def invalid_request(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(UserError(sentence(error.errors(), prefix=1)), gateway=gateway)

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid_request)


def sentence(problems: Sequence[Any], *, prefix: int = 0) -> str:
    """A sentence about the first of pydantic's problems. It leaves out values, which may be secret.

    ``prefix``: how many parts of the location come before the field's name (the framework's body, query, …).
    """
    first = problems[0]
    location = [str(part) for part in first["loc"][prefix:]]
    problem = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if first["type"] == "missing":
        return f"Field '{'.'.join(location)}' is missing."
    return f"Field '{'.'.join(location)}': {problem}." if location else f"{problem}."


def _from_http(request: Request, error: HTTPException) -> ThawboxError:
    if error.status_code == 404:
        return RouteNotFound(f"There is nothing at {request.url.path[:200]!r}.")
    if error.status_code == 405:
        return MethodNotAllowed(f"{request.method[:20]} is not possible at {request.url.path[:200]!r}.")
    if error.status_code < 500:
        return UserError(str(error.detail))
    return UnexpectedFault()
