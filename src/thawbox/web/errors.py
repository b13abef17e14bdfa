"""How errors look on the wire (contract A.5): one flat envelope for everything that is not a success."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from thawbox.errors import InternalFault, ThawboxError, UserError
from thawbox.util.timestamps import rfc3339

from . import context


class ErrorEnvelope(BaseModel):
    """The body of every answer that is not a success."""

    error: str = Field(description="Short title, the same for every error of this kind.")
    message: str = Field(description="One sentence: what is wrong, and what to do about it.")
    code: str = Field(description="For programs, upper case with underscores.")
    request_id: str
    retry_after: int | None = Field(
        default=None, description="Seconds; only where it makes sense to come back."
    )
    details: dict[str, Any] | None = Field(default=None, description="Absent rather than null.")
    timestamp: str | None = Field(default=None, description="Gateway only.")
    path: str | None = Field(default=None, description="Gateway only: the file that the error is about.")


class MethodNotAllowed(UserError):
    """This path exists, but not for this method."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    title = "Method not allowed"


class NoSuchPath(UserError):
    """Nothing is served here."""

    status = 404
    code = "RESOURCE_NOT_FOUND"
    title = "Not found"


class Unexpected(InternalFault):
    """A bug of ours; what happened is in the server's log under the request id."""

    def __init__(self) -> None:
        super().__init__("Something broke inside the server. Its log tells what, under this request id.")


def response(error: ThawboxError, *, gateway: bool, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """``error`` as an answer. The gateway's carry a time, and the file that they are about."""
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
    """Let the framework's own errors look like ours. ThawboxError itself is answered by the middleware."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return response(_from_http(request, error), gateway=gateway, headers=dict(error.headers or {}))

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(UserError(sentence(error.errors(), prefix=1)), gateway=gateway)

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)


def sentence(problems: Sequence[Any], *, prefix: int = 0) -> str:
    """What pydantic found, as a sentence on the first problem. Values are left out: they may be secret.

    ``prefix``: how many words stand before the field's name (the framework's: body, query, …).
    """
    first = problems[0]
    place = [str(part) for part in first["loc"][prefix:]]
    problem = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if first["type"] == "missing":
        return f"Field '{'.'.join(place)}' is missing."
    return f"Field '{'.'.join(place)}': {problem}." if place else f"{problem}."


def _from_http(request: Request, error: HTTPException) -> ThawboxError:
    if error.status_code == 404:
        return NoSuchPath(f"There is nothing at {request.url.path[:200]!r}.")
    if error.status_code == 405:
        return MethodNotAllowed(f"{request.method[:20]} is not possible at {request.url.path[:200]!r}.")
    if error.status_code < 500:
        return UserError(str(error.detail))
    return Unexpected()
