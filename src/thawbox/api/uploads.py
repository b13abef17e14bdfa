"""Uploads for COPY steps: a client requests a URL, then sends the bytes there.

What clients rely on: docs/reference/compatibility/uploads.md#asking-for-an-address.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, field_validator

from thawbox.errors import NotFound, TooLarge, UserError
from thawbox.settings import Settings
from thawbox.store import uploads
from thawbox.store.enums import UploadKind
from thawbox.templates.archive import check_archive
from thawbox.util.timestamps import rfc3339
from thawbox.web import context, openapi
from thawbox.web.addresses import control_url
from thawbox.web.bodies import Body, parse, read_json

from . import upload_urls
from .context import caller_of, context_of
from .receiving import receive
from .upload_urls import UPLOAD_PREFIX

router = APIRouter(tags=["uploads"])

FOLDER = "uploads"
"""The folder of uploads below the state folder. ``UploadRow.blob`` is the name of a file; unfinished files end in
``.part``."""
MAX_FILES = 1000
"""The most files in one request for URLs."""
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


class ArchiveLinkRequest(Body):
    """For one archive with all files of a COPY step."""

    files_hash: str = Field(
        pattern="^[0-9a-fA-F]{64}$", description="64 hex digits that name the archive in the build request."
    )
    content_length: int = Field(ge=1, description="Size of the tar.gz in bytes.")


class FileToUpload(Body):
    """One file."""

    path: str = Field(
        min_length=1, max_length=1024, description="A relative path, as in the `src` of a COPY step."
    )
    size: int = Field(ge=0, description="Size in bytes.")
    hash: str | None = Field(default=None, description="`sha256:` and 64 hex digits; checked if present.")

    @field_validator("path")
    @classmethod
    def inside(cls, path: str) -> str:
        """Check that the path stays inside the context, and normalise it."""
        parts = path.removeprefix("./").split("/")
        if path.startswith("/") or ".." in parts or "\x00" in path:
            raise ValueError("must be a relative path without '..' and NUL")
        return "/".join(part for part in parts if part not in ("", "."))


class FileLinksRequest(Body):
    """For single files."""

    files: list[FileToUpload] = Field(min_length=1, max_length=MAX_FILES)


class ArchiveLink(BaseModel):
    """The URL to PUT the archive to."""

    present: Literal[False] = Field(
        default=False,
        description="Always false: equal hashes do not mean equal content, so the archive is sent every time.",
    )
    upload_url: str
    expires_at: str
    request_id: str


class FileLink(BaseModel):
    """The URL to PUT one file to."""

    path: str
    upload_url: str
    file_id: str


class FileLinks(BaseModel):
    """The URLs to PUT the files to, in the order of the request."""

    upload_urls: list[FileLink]
    request_id: str


class Uploaded(BaseModel):
    """The bytes arrived and were checked."""

    status: Literal["uploaded"] = "uploaded"
    file_id: str
    size: int
    request_id: str


_BODIES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        openapi.schema(ArchiveLinkRequest),
                        openapi.schema(FileLinksRequest),
                    ]
                }
            }
        },
    }
}


@router.post("/v1/templates/files/upload-link", responses=openapi.errors(413), openapi_extra=_BODIES)
async def upload_link(request: Request) -> ArchiveLink | FileLinks:
    """Request URLs for the files of COPY steps. Each takes a PUT without a key, for an hour."""
    body = await read_json(request, context_of(request).settings.max_body_bytes)
    if "files" in body:
        return await _file_links(request, parse(FileLinksRequest, body))
    return await _archive_link(request, parse(ArchiveLinkRequest, body))


@router.put(
    UPLOAD_PREFIX + "{file_id}",
    responses=openapi.open_errors(400, 403, 404, 413, 500),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    request: Request,
    file_id: str,
    size: Annotated[str, Query()],
    expires: Annotated[str, Query()],
    signature: Annotated[str, Query()],
    sha256: Annotated[str, Query()] = "",
) -> Uploaded:
    """Upload the bytes to a URL of `upload-link`. Needs no key. A second upload replaces the first one."""
    services = context_of(request)
    grant = upload_urls.verify(
        services.tokens, file_id, size=size, expires=expires, sha256=sha256, signature=signature
    )
    async with services.database.read() as connection:
        row = await uploads.get_by_file_id(connection, file_id)
    if row is None:
        raise NotFound("The server no longer has this upload: request a new URL.")
    folder = services.settings.state / FOLDER
    async with receive(request, folder, grant.size, grant.sha256) as path:
        if row.kind == UploadKind.ARCHIVE:
            await asyncio.to_thread(check_archive, path, settings=services.settings)
        await _keep(request, path, file_id, grant.size)
    return Uploaded(file_id=file_id, size=grant.size, request_id=context.request_id())


async def _keep(request: Request, path: Path, file_id: str, size: int) -> None:
    """Give the file its final name and record it in the row. A blob that it replaces stays: builds may read it."""
    blob = secrets.token_hex(16)
    final = path.with_name(blob)
    try:
        path.rename(final)
        async with context_of(request).database.write() as connection:
            known = await uploads.complete(connection, file_id, blob=blob, size=size)
    except BaseException:
        final.unlink(missing_ok=True)
        raise
    if not known:
        final.unlink(missing_ok=True)
        raise NotFound("The server no longer has this upload: request a new URL.")


async def _archive_link(request: Request, body: ArchiveLinkRequest) -> ArchiveLink:
    services = context_of(request)
    _check_size(body.content_length, "content_length", services.settings)
    async with services.database.write() as connection:
        row = await uploads.announce(
            connection,
            organization_id=caller_of(request).organization_id,
            name=body.files_hash,
            kind=UploadKind.ARCHIVE,
            size=body.content_length,
        )
    path, grant = upload_urls.sign(services.tokens, row.file_id, body.content_length)
    return ArchiveLink(
        upload_url=control_url(request, services.settings) + path,
        expires_at=rfc3339(grant.expires),
        request_id=context.request_id(),
    )


async def _file_links(request: Request, body: FileLinksRequest) -> FileLinks:
    services = context_of(request)
    base = control_url(request, services.settings)
    links = []
    async with services.database.write() as connection:
        for file in body.files:
            if not file.path:
                raise UserError("Field 'files.path' names a folder: name a file.")
            _check_size(file.size, "files.size", services.settings)
            row = await uploads.announce(
                connection,
                organization_id=caller_of(request).organization_id,
                name=file.path,
                kind=UploadKind.FILE,
                size=file.size,
            )
            digest = _SHA256.fullmatch(file.hash or "")
            path, _ = upload_urls.sign(services.tokens, row.file_id, file.size, digest[1] if digest else "")
            links.append(FileLink(path=file.path, upload_url=base + path, file_id=row.file_id))
    return FileLinks(upload_urls=links, request_id=context.request_id())


def _check_size(size: int, field: str, settings: Settings) -> None:
    if size > settings.upload_max_bytes:
        raise TooLarge(
            f"Field '{field}' is {size}: at most {settings.upload_max_bytes} bytes can be uploaded."
        )
