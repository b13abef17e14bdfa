"""Single files and folders: ``/files/read``, ``write``, ``exists``, ``mkdir``, ``remove``.

What clients rely on: docs/reference/compatibility/gateway.md#files.
"""

from __future__ import annotations

import base64
import binascii
import time

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.errors import TooLarge, UserError
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of
from thawbox.gateway.target import target_of
from thawbox.guest import Endpoint, GuestError
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi
from thawbox.web.bodies import Body, read_model
from thawbox.web.context import request_id

from .answers import ContentFields, FileContent, FileStored, PathChanged, PathExists
from .paths import AsciiJSONResponse, absolute, file_errors, printable, requested_path

router = APIRouter(tags=["files"])

READ_MAX = 32 * 1024 * 1024
"""Bytes of a file that one JSON answer holds."""
BODY_MAX = 48 * 1024 * 1024
"""Bytes of a request to write; base64 needs a third more than the file has."""
REMOVE_S = 600.0
"""Longest time to remove a large folder."""


class WriteFile(Body):
    """A file, as text or in base64."""

    path: str
    content: str
    mode: str | None = Field(default=None, pattern=r"^(0o?)?[0-7]{3,4}$")
    encoding: str | None = None
    overwrite: bool | None = None


class MakeFolder(Body):
    """A folder."""

    path: str


@router.get("/files/read", responses=answers(FileContent))
async def read_file(request: Request, path: str) -> JSONResponse:
    """A file's content as text, or, if it is not UTF-8, in base64 with ``encoding``."""
    target = await target_of(request)
    path = requested_path(request)
    with file_errors(target, path):
        data = await _content(target.endpoint, path)
    answer: FileContent = {**_fields(data), "path": path, "size": len(data), "request_id": request_id()}
    return AsciiJSONResponse(answer)


@router.post("/files/write", openapi_extra=openapi.body(WriteFile), responses=answers(FileStored))
async def write_file(request: Request) -> JSONResponse:
    """Put a file in place, whole or not at all; its folders are made."""
    target = await target_of(request)
    body = await read_model(request, WriteFile, BODY_MAX, surrogates=True)
    path = absolute(body.path, context_of(request).settings)
    data = _decoded(body)
    with file_errors(target, path):
        size = await guest.write_file(
            target.endpoint,
            path,
            data,
            mode=None if body.mode is None else int(body.mode.removeprefix("0o"), 8),
            overwrite=body.overwrite is not False,
            user=target.defaults.user,
        )
    return stored("File written successfully", path, size)


@router.get("/files/exists", responses=answers(PathExists))
async def exists(request: Request, path: str) -> JSONResponse:
    """Whether something is at a path; a broken symlink counts as nothing. Always 200."""
    target = await target_of(request)
    path = requested_path(request)
    with file_errors(target, path):
        try:
            kind = (await guest.stat(target.endpoint, path, follow=True)).type
        except GuestError:  # missing, or no file can have this name
            kind = None
    answer: PathExists = {
        "exists": kind is not None,
        "path": path,
        "is_directory": kind == "directory",
        "request_id": request_id(),
    }
    return AsciiJSONResponse(answer)


@router.post("/files/mkdir", openapi_extra=openapi.body(MakeFolder), responses=answers(PathChanged))
async def make_folder(request: Request) -> JSONResponse:
    """Make a folder and those above it; one that exists is fine."""
    target = await target_of(request)
    settings = context_of(request).settings
    body = await read_model(request, MakeFolder, settings.max_body_bytes, surrogates=True)
    path = absolute(body.path, settings)
    with file_errors(target, path):
        await guest.mkdir(target.endpoint, path, parents=True, user=target.defaults.user)
    return changed("Directory created successfully", path)


@router.delete("/files/remove", responses=answers(PathChanged))
async def remove(request: Request, path: str) -> JSONResponse:
    """Remove a file, a link, or a folder with all that is in it."""
    target = await target_of(request)
    path = requested_path(request)
    with file_errors(target, path):
        await guest.remove(target.endpoint, path, recursive=True, timeout=REMOVE_S)
    return changed("Removed successfully", path)


def changed(message: str, path: str) -> JSONResponse:
    """The answer of a route that made or removed ``path``."""
    return AsciiJSONResponse(_changed(message, path))


def stored(message: str, path: str, size: int) -> JSONResponse:
    """The answer of a route that wrote ``size`` bytes to the file ``path``."""
    answer: FileStored = {**_changed(message, path), "size": size}
    return AsciiJSONResponse(answer)


def _changed(message: str, path: str) -> PathChanged:
    return {
        "success": True,
        "message": message,
        "path": path,
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }


async def _content(endpoint: Endpoint, path: str) -> bytes:
    data = bytearray()
    async with guest.read_file(endpoint, path) as (_, chunks):
        async for chunk in chunks:  # the reported size is not trusted: the file may grow
            data += chunk
            if len(data) > READ_MAX:
                raise TooLarge(
                    f"{printable(path)} has more than {READ_MAX} bytes: use GET /files/download.",
                    details={"path": printable(path)},
                )
    return bytes(data)


def _fields(data: bytes) -> ContentFields:
    try:
        return {"content": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(data).decode(), "encoding": "base64"}


def _decoded(body: WriteFile) -> bytes:
    if body.encoding in (None, "", "utf-8", "utf8", "text"):
        try:
            return body.content.encode()
        except UnicodeEncodeError:
            raise UserError("Field 'content' has half a surrogate pair (\\ud800 to \\udfff).") from None
    if body.encoding != "base64":
        raise UserError(f"Field 'encoding' is {body.encoding[:50]!r}: use base64, or leave it out for text.")
    try:
        return base64.b64decode(body.content, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("Field 'content' is not valid base64.") from None
