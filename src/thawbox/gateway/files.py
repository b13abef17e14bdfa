"""``GET /files/read`` and ``POST /files/write`` (contract E.4)."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse

from thawbox.errors import (
    FileExists,
    FileMissing,
    Forbidden,
    GuestFault,
    InvalidPath,
    SandboxUnavailable,
    ThawboxError,
    TooLarge,
    UserError,
)
from thawbox.guest import client
from thawbox.guest.client import Endpoint, GuestError
from thawbox.http import context
from thawbox.http.bodies import Body, read_model
from thawbox.timestamps import rfc3339

from .commands import WORKSPACE
from .context import context_of, sandbox_of

router = APIRouter(tags=["files"])

READ_MAX = 32 * 1024 * 1024
"""Bytes of a file that one JSON answer holds."""
BODY_MAX = 48 * 1024 * 1024
"""Bytes of a request to write; base64 needs a third more than the file has."""
PATH_MAX = 4096


class WriteFile(Body):
    """A file, as text or in base64."""

    path: str = Field(min_length=1)
    content: str
    mode: str | None = Field(default=None, pattern=r"^(0o?)?[0-7]{3,4}$")
    encoding: str | None = None
    overwrite: bool | None = None


class FileOperationFailed(UserError):
    """The sandbox's own file system refused. A 4xx, because trying again would not help."""

    status = 400
    code = "FILE_OPERATION_FAILED"
    title = "File operation failed"


@router.get("/files/read")
async def read_file(request: Request, path: str) -> JSONResponse:
    """A file's content as text, or, if it is no UTF-8, in base64 with ``encoding``."""
    sandbox = await sandbox_of(request)
    endpoint = await context_of(request).sandboxes.endpoint(sandbox)
    path = _absolute(path)
    try:
        data = await _content(endpoint, path)
    except GuestError as error:
        raise _refusal(error, path) from error
    except GuestFault as error:
        raise SandboxUnavailable(f"The agent of sandbox {sandbox.id} broke off: {error.message}") from error
    return JSONResponse(
        {**_as_json(data), "path": path, "size": len(data), "request_id": context.request_id()}
    )


@router.post("/files/write")
async def write_file(request: Request) -> JSONResponse:
    """Put a file in place, whole or not at all; its folders are made."""
    sandbox = await sandbox_of(request)
    asked = await read_model(request, WriteFile, BODY_MAX)
    path = _absolute(asked.path)
    data = _decoded(asked)
    endpoint = await context_of(request).sandboxes.endpoint(sandbox)
    try:
        size = await client.write_file(
            endpoint,
            path,
            data,
            mode=None if asked.mode is None else int(asked.mode.removeprefix("0o"), 8),
            overwrite=asked.overwrite is not False,
        )
    except GuestError as error:
        raise _refusal(error, path) from error
    except GuestFault as error:
        raise SandboxUnavailable(f"The agent of sandbox {sandbox.id} broke off: {error.message}") from error
    return JSONResponse(
        {
            "success": True,
            "message": "File written successfully",
            "path": path,
            "size": size,
            "timestamp": rfc3339(time.time()),
            "request_id": context.request_id(),
        }
    )


async def _content(endpoint: Endpoint, path: str) -> bytes:
    data = bytearray()
    async with client.read_file(endpoint, path) as (_, chunks):
        async for chunk in chunks:  # the size that the file claims is not trusted: it may grow
            data += chunk
            if len(data) > READ_MAX:
                raise TooLarge(
                    f"{path} has more than {READ_MAX} bytes: read it in parts with a command.",
                    details={"path": path},
                )
    return bytes(data)


def _as_json(data: bytes) -> dict[str, Any]:
    try:
        return {"content": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(data).decode(), "encoding": "base64"}


def _decoded(asked: WriteFile) -> bytes:
    if asked.encoding in (None, "", "utf-8", "utf8", "text"):
        return asked.content.encode()
    if asked.encoding != "base64":
        raise UserError(f"Field 'encoding' is {asked.encoding[:50]!r}: use base64, or leave it out for text.")
    try:
        return base64.b64decode(asked.content, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("Field 'content' is not valid base64.") from None


def _absolute(path: str) -> str:
    """Relative paths count from the workspace.

    Raises:
        InvalidPath: no file can have this name.
    """
    if not path or "\x00" in path or len(path.encode("utf-8", "replace")) > PATH_MAX:
        raise InvalidPath(f"Field 'path' must have 1 to {PATH_MAX} bytes and no NUL.")
    return path if path.startswith("/") else f"{WORKSPACE}/{path}"


def _refusal(error: GuestError, path: str) -> ThawboxError:
    details = {"path": path}
    match error.code:
        case "NOT_FOUND":
            return FileMissing(f"There is no file {path} in the sandbox.", details=details)
        case "IS_DIRECTORY" | "NOT_REGULAR" | "ENOTDIR" | "ENAMETOOLONG" | "ELOOP" | "INVALID":
            return InvalidPath(f"{path}: {error.message}.", details=details)
        case "ALREADY_EXISTS":
            return FileExists(f"{path} exists already, and overwrite is false.", details=details)
        case "EACCES" | "EPERM" | "EROFS":
            return Forbidden(f"{path}: {error.message}.", details=details)
        case _:
            return FileOperationFailed(f"{path}: {error.message} ({error.code}).", details=details)
