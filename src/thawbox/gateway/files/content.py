"""Single files and folders: ``/files/read``, ``write``, ``exists``, ``mkdir``, ``remove`` (contract E.4)."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.errors import TooLarge, UserError
from thawbox.gateway.context import context_of
from thawbox.gateway.target import target_of
from thawbox.guest import Endpoint, GuestError
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi
from thawbox.web.bodies import Body, read_model

from .paths import PathAnswer, absolute, asked_path, refusals, shown

router = APIRouter(tags=["files"])

READ_MAX = 32 * 1024 * 1024
"""Bytes of a file that one JSON answer holds."""
BODY_MAX = 48 * 1024 * 1024
"""Bytes of a request to write; base64 needs a third more than the file has."""
REMOVE_S = 600.0
"""How long removing a large folder may take."""


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


@router.get("/files/read")
async def read_file(request: Request, path: str) -> JSONResponse:
    """A file's content as text, or, if it is no UTF-8, in base64 with ``encoding``."""
    target = await target_of(request)
    path = asked_path(request)
    with refusals(target, path):
        data = await _content(target.endpoint, path)
    return PathAnswer({**_as_json(data), "path": path, "size": len(data), "request_id": context.request_id()})


@router.post("/files/write", openapi_extra=openapi.body(WriteFile))
async def write_file(request: Request) -> JSONResponse:
    """Put a file in place, whole or not at all; its folders are made."""
    target = await target_of(request)
    asked = await read_model(request, WriteFile, BODY_MAX, surrogates=True)
    path = absolute(asked.path, context_of(request).settings)
    data = _decoded(asked)
    with refusals(target, path):
        size = await guest.write_file(
            target.endpoint,
            path,
            data,
            mode=None if asked.mode is None else int(asked.mode.removeprefix("0o"), 8),
            overwrite=asked.overwrite is not False,
            user=target.defaults.user,
        )
    return done("File written successfully", path, size)


@router.get("/files/exists")
async def exists(request: Request, path: str) -> JSONResponse:
    """Whether there is something; a link that leads nowhere is nothing. Always 200."""
    target = await target_of(request)
    path = asked_path(request)
    with refusals(target, path):
        try:
            kind = (await guest.stat(target.endpoint, path, follow=True)).type
        except GuestError:  # missing, or nothing can have this name
            kind = None
    return PathAnswer(
        {
            "exists": kind is not None,
            "path": path,
            "is_directory": kind == "directory",
            "request_id": context.request_id(),
        }
    )


@router.post("/files/mkdir", openapi_extra=openapi.body(MakeFolder))
async def make_folder(request: Request) -> JSONResponse:
    """Make a folder and those above it; one that exists is fine."""
    target = await target_of(request)
    settings = context_of(request).settings
    asked = await read_model(request, MakeFolder, settings.max_body_bytes, surrogates=True)
    path = absolute(asked.path, settings)
    with refusals(target, path):
        await guest.mkdir(target.endpoint, path, parents=True, user=target.defaults.user)
    return done("Directory created successfully", path)


@router.delete("/files/remove")
async def remove(request: Request, path: str) -> JSONResponse:
    """Remove a file, a link, or a folder with all that is in it."""
    target = await target_of(request)
    path = asked_path(request)
    with refusals(target, path):
        await guest.remove(target.endpoint, path, recursive=True, timeout=REMOVE_S)
    return done("Removed successfully", path)


def done(message: str, path: str, size: int | None = None) -> JSONResponse:
    """The answer of what changes files."""
    return PathAnswer(
        {
            "success": True,
            "message": message,
            "path": path,
            **({} if size is None else {"size": size}),
            "timestamp": rfc3339(time.time()),
            "request_id": context.request_id(),
        }
    )


async def _content(endpoint: Endpoint, path: str) -> bytes:
    data = bytearray()
    async with guest.read_file(endpoint, path) as (_, chunks):
        async for chunk in chunks:  # the size that the file claims is not trusted: it may grow
            data += chunk
            if len(data) > READ_MAX:
                raise TooLarge(
                    f"{shown(path)} has more than {READ_MAX} bytes: use GET /files/download.",
                    details={"path": shown(path)},
                )
    return bytes(data)


def _as_json(data: bytes) -> dict[str, Any]:
    try:
        return {"content": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(data).decode(), "encoding": "base64"}


def _decoded(asked: WriteFile) -> bytes:
    if asked.encoding in (None, "", "utf-8", "utf8", "text"):
        try:
            return asked.content.encode()
        except UnicodeEncodeError:
            raise UserError("Field 'content' has half a surrogate pair (\\ud800 to \\udfff).") from None
    if asked.encoding != "base64":
        raise UserError(f"Field 'encoding' is {asked.encoding[:50]!r}: use base64, or leave it out for text.")
    try:
        return base64.b64decode(asked.content, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("Field 'content' is not valid base64.") from None
