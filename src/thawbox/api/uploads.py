"""Uploads for COPY steps: ask for a URL, send the bytes there.

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
"""Below the state folder; blobs are named by ``UploadRow.blob``, unfinished ones end in ``.part``."""
MAX_FILES = 1000
"""Most files in one request for links."""
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


class ArchiveLinkRequest(Body):
    """For an archive of everything that one COPY step needs."""

    files_hash: str = Field(pattern="^[0-9a-fA-F]{64}$", description="64 hex digits; names the archive.")
    content_length: int = Field(ge=1, description="Bytes of the tar.gz.")


class FileToUpload(Body):
    """One file."""

    path: str = Field(min_length=1, max_length=1024, description="Relative; what a COPY step names in `src`.")
    size: int = Field(ge=0, description="Bytes.")
    hash: str | None = Field(default=None, description="`sha256:` and 64 hex digits; checked if given.")

    @field_validator("path")
    @classmethod
    def inside(cls, path: str) -> str:
        """Only names that stay inside the folder where COPY looks."""
        parts = path.removeprefix("./").split("/")
        if path.startswith("/") or ".." in parts or "\x00" in path:
            raise ValueError("must be a relative path without '..' and NUL")
        return "/".join(part for part in parts if part not in ("", "."))


class FileLinksRequest(Body):
    """For single files."""

    files: list[FileToUpload] = Field(min_length=1, max_length=MAX_FILES)


class ArchiveLink(BaseModel):
    """Where to PUT the archive."""

    present: Literal[False] = Field(
        default=False, description="Always: equal hashes do not mean equal content, so it is sent every time."
    )
    upload_url: str
    expires_at: str
    request_id: str


class FileLink(BaseModel):
    """Where to PUT one file."""

    path: str
    upload_url: str
    file_id: str


class FileLinks(BaseModel):
    """Where to PUT the files, in the order asked."""

    upload_urls: list[FileLink]
    request_id: str


class Uploaded(BaseModel):
    """The bytes arrived and are sound."""

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
    """URLs for the files of COPY steps; each takes one PUT without a key, for an hour."""
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
    """Send the bytes. The URL is one that `upload-link` gave; it needs no key. Sending again replaces."""
    parts = context_of(request)
    grant = upload_urls.verify(
        parts.tokens, file_id, size=size, expires=expires, sha256=sha256, signature=signature
    )
    async with parts.database.read() as connection:
        row = await uploads.get_by_file_id(connection, file_id)
    if row is None:
        raise NotFound("This upload is not known any more: ask for a new URL.")
    folder = parts.settings.state / FOLDER
    async with receive(request, folder, grant.size, grant.sha256) as path:
        if row.kind == UploadKind.ARCHIVE:
            await asyncio.to_thread(check_archive, path, settings=parts.settings)
        await _keep(request, path, file_id, grant.size)
    return Uploaded(file_id=file_id, size=grant.size, request_id=context.request_id())


async def _keep(request: Request, path: Path, file_id: str, size: int) -> None:
    """Give the file its final name and let the row point there. A replaced blob stays: builds may read it."""
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
        raise NotFound("This upload is not known any more: ask for a new URL.")


async def _archive_link(request: Request, asked: ArchiveLinkRequest) -> ArchiveLink:
    parts = context_of(request)
    _check_size(asked.content_length, "content_length", parts.settings)
    async with parts.database.write() as connection:
        row = await uploads.announce(
            connection,
            organization_id=caller_of(request).organization_id,
            name=asked.files_hash,
            kind=UploadKind.ARCHIVE,
            size=asked.content_length,
        )
    path, grant = upload_urls.sign(parts.tokens, row.file_id, asked.content_length)
    return ArchiveLink(
        upload_url=control_url(request, parts.settings) + path,
        expires_at=rfc3339(grant.expires),
        request_id=context.request_id(),
    )


async def _file_links(request: Request, asked: FileLinksRequest) -> FileLinks:
    parts = context_of(request)
    base = control_url(request, parts.settings)
    links = []
    async with parts.database.write() as connection:
        for file in asked.files:
            if not file.path:
                raise UserError("Field 'files.path' names a folder: name a file.")
            _check_size(file.size, "files.size", parts.settings)
            row = await uploads.announce(
                connection,
                organization_id=caller_of(request).organization_id,
                name=file.path,
                kind=UploadKind.FILE,
                size=file.size,
            )
            digest = _SHA256.fullmatch(file.hash or "")
            path, _ = upload_urls.sign(parts.tokens, row.file_id, file.size, digest[1] if digest else "")
            links.append(FileLink(path=file.path, upload_url=base + path, file_id=row.file_id))
    return FileLinks(upload_urls=links, request_id=context.request_id())


def _check_size(size: int, field: str, settings: Settings) -> None:
    if size > settings.upload_max_bytes:
        raise TooLarge(
            f"Field '{field}' is {size}: at most {settings.upload_max_bytes} bytes can be uploaded."
        )
