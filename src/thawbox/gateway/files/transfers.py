"""Whole files as bytes, streamed: ``GET /files/download`` and ``POST /files/upload``.

What clients rely on: docs/reference/compatibility/gateway.md#files.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from thawbox import guest
from thawbox.errors import GuestFault, RangeNotSatisfiable
from thawbox.gateway import target as targets
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of
from thawbox.guest import FileInfo, GuestError

from .answers import FileStored
from .content import stored
from .multipart import UploadForm
from .paths import absolute, file_errors, requested_path

router = APIRouter(tags=["files"])

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)


@router.get("/files/download", responses={206: {"description": "The range that was asked for."}})
@router.head("/files/download", include_in_schema=False)
async def download(request: Request, path: str) -> Response:
    """A file's bytes, or with ``Range`` a range of them.

    A file is sent as long as it is now; if it shrinks meanwhile, the answer breaks off. A file without a size (in
    /proc) is sent to its end.
    """
    target = await targets.target_of(request)
    path = requested_path(request)
    if request.method == "HEAD":
        with file_errors(target, path):
            info = await guest.stat(target.endpoint, path, follow=True)
            if info.type != "file":
                raise GuestError("NOT_REGULAR", f"{path} is not a regular file")
        return Response(headers=_headers(path, info, info.size), media_type="application/octet-stream")
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    if wanted is not None:
        with file_errors(target, path):
            size = (await guest.stat(target.endpoint, path, follow=True)).size
        if size:
            return await _stream(target, path, _bounds(wanted, size))
    return await _stream(target, path, None)


@router.post("/files/upload", responses=answers(FileStored))
async def upload(request: Request) -> JSONResponse:
    """Store the part ``file`` of a multipart form at its field ``path``, which may come before or after it.

    A path that is a folder, or ends with a slash, gets the file under its own name in it; without a path it goes
    to the workspace.
    """
    target = await targets.target_of(request)
    settings = context_of(request).settings
    form = UploadForm(request.headers.get("content-type", ""), request.stream())
    name = await form.until_file()
    default = f"{targets.WORKSPACE}/"

    def destination() -> str:
        return absolute(form.fields.get("path") or default, settings)

    early_path = destination() if form.fields.get("path") else None
    try:
        path, size = await guest.receive_file(
            target.endpoint,
            form.content(),
            path=early_path,
            name=name,
            late_path=destination,
            staging=target.workdir,
            user=target.defaults.user,
        )
    except (GuestError, GuestFault):
        with file_errors(target, destination()):
            raise
    return stored("File uploaded successfully", path, size)


async def _stream(target: targets.Target, path: str, bounds: tuple[int, int, int] | None) -> Response:
    """The bytes from the first to the last of ``bounds``, whose third is the size of the file; None: all bytes."""
    stack = contextlib.AsyncExitStack()
    offset, length = (0, None) if bounds is None else (bounds[0], bounds[1] - bounds[0] + 1)
    try:
        with file_errors(target, path):
            opened = guest.read_file(target.endpoint, path, offset=offset, length=length)
            info, chunks = await stack.enter_async_context(opened)
        if length is None and info.size:
            length = info.size
        headers = _headers(path, info, length)
        if bounds is not None:
            headers["Content-Range"] = f"bytes {bounds[0]}-{bounds[1]}/{bounds[2]}"
        return StreamingResponse(
            _content(stack, chunks, length),
            status_code=200 if bounds is None else 206,
            headers=headers,
            media_type="application/octet-stream",
        )
    except BaseException:
        await stack.aclose()
        raise


async def _content(
    stack: contextlib.AsyncExitStack, chunks: AsyncIterator[bytes], length: int | None
) -> AsyncIterator[bytes]:
    """``chunks``, cut at the announced length: the file may be growing."""
    async with stack:
        async for chunk in chunks:
            if length is None:
                yield chunk
                continue
            yield chunk[:length] if len(chunk) > length else chunk
            length -= min(len(chunk), length)
            if not length:
                return
        if length:
            raise ConnectionError("the file became shorter while it was sent")


def _bounds(wanted: re.Match[str], size: int) -> tuple[int, int, int]:
    first, last, suffix = wanted.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start > end:
        raise RangeNotSatisfiable(f"The file has {size} bytes; the range {start}-{end} is not in it.")
    return start, end, size


def _headers(path: str, info: FileInfo, length: int | None) -> dict[str, str]:
    headers = {
        "Content-Disposition": content_disposition(posixpath.basename(path)),
        "Accept-Ranges": "bytes",
        "Last-Modified": formatdate(min(max(info.mtime, 0.0), 253_402_300_799.0), usegmt=True),
    }
    if length is not None:
        headers["Content-Length"] = str(length)
    return headers


def content_disposition(name: str) -> str:
    """The header's value for ``name`` (RFC 6266): in ASCII for old clients, and exact for the others."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    exact = quote(name.encode("utf-8", "surrogateescape"), safe="")
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
