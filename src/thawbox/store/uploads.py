"""Uploads: files that COPY steps use, announced by one request and sent by another."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import sqlalchemy as sa

from .connection import Connection
from .enums import UploadKind
from .rows import value, value_or_none
from .schema import uploads


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload: what was announced under a name, and the file that arrived last."""

    organization_id: int
    name: str
    """The files_hash (``kind`` archive) or the relative path (``kind`` file)."""
    file_id: str
    kind: UploadKind
    size: int
    """In bytes: of ``blob`` if there is one, else as announced."""
    blob: str | None
    """File name below ``<state>/uploads``; None until the bytes are complete and checked."""
    created_at: float


async def announce(
    c: Connection, *, organization_id: int, name: str, kind: UploadKind, size: int
) -> UploadRow:
    """Register an upload that will come. A known name keeps its file id, and its file until a new one arrives.

    Call it inside a write.
    """
    known = await get(c, organization_id, name)
    if known is not None:
        return known
    statement = (
        sa.insert(uploads)
        .values(
            organization_id=organization_id,
            name=name,
            file_id=secrets.token_hex(16),
            kind=kind,
            size=size,
            created_at=time.time(),
        )
        .returning(uploads)
    )
    return value(UploadRow, (await c.execute(statement)).one())


async def complete(c: Connection, file_id: str, *, blob: str, size: int) -> bool:
    """Register the file that arrived. False: there is no upload with this file id.

    An earlier blob is no longer referenced. Running builds may still read it, so garbage collection removes it later.
    """
    statement = (
        sa.update(uploads)
        .where(uploads.c.file_id == file_id)
        .values(blob=blob, size=size, created_at=time.time())
    )
    return (await c.execute(statement)).rowcount == 1


async def get(c: Connection, organization_id: int, name: str) -> UploadRow | None:
    """The upload of this name; its ``blob`` is None until a file has arrived."""
    statement = sa.select(uploads).where(uploads.c.organization_id == organization_id, uploads.c.name == name)
    return value_or_none(UploadRow, (await c.execute(statement)).one_or_none())


async def find(c: Connection, organization_id: int, reference: str) -> UploadRow | None:
    """The organisation's upload that a COPY step's source names: by its name or its file id."""
    by_name = await get(c, organization_id, reference)
    if by_name is not None:
        return by_name
    statement = sa.select(uploads).where(
        uploads.c.organization_id == organization_id, uploads.c.file_id == reference
    )
    return value_or_none(UploadRow, (await c.execute(statement)).one_or_none())


async def get_by_file_id(c: Connection, file_id: str) -> UploadRow | None:
    """The upload with this file id, whoever owns it."""
    statement = sa.select(uploads).where(uploads.c.file_id == file_id)
    return value_or_none(UploadRow, (await c.execute(statement)).one_or_none())


async def blobs(c: Connection) -> set[str]:
    """All blobs that rows name; other files below ``<state>/uploads`` are leftovers."""
    statement = sa.select(uploads.c.blob).where(uploads.c.blob.is_not(None))
    return set((await c.execute(statement)).scalars())


async def delete_before(c: Connection, before: float) -> int:
    """Delete uploads that were announced or arrived before then. Returns how many."""
    return (await c.execute(sa.delete(uploads).where(uploads.c.created_at < before))).rowcount
