"""Receives the body of a request into a temporary file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import ClientDisconnect, Request

from thawbox.errors import UserError

_BATCH = 1024 * 1024  # bytes handed to a thread at once


@asynccontextmanager
async def receive(request: Request, folder: Path, size: int, sha256: str) -> AsyncIterator[Path]:
    """The path of a temporary file below ``folder`` that holds the whole body.

    The file is removed when the block ends, unless the block has moved it. ``sha256`` is hex, or empty if it is not
    known.

    Raises:
        UserError: the body does not have exactly ``size`` bytes, or does not have this ``sha256``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{secrets.token_hex(16)}.part"
    try:
        digest = await _store(request, path, size)
        if sha256 and digest != sha256:
            raise UserError(
                "The sha256 of the uploaded bytes is not the one that was announced: send the file again."
            )
        yield path
    finally:
        path.unlink(missing_ok=True)


async def _store(request: Request, path: Path, size: int) -> str:
    declared = request.headers.get("content-length")
    if declared is not None and declared != str(size):
        raise UserError(
            f"Content-Length is {declared[:20]}, but {size} bytes were announced: request a new upload URL."
        )
    digest = hashlib.sha256()
    received = 0
    with path.open("xb") as file:

        def put(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        def flush() -> None:
            file.flush()
            os.fsync(file.fileno())

        async for batch in _batches(request):
            received += len(batch)
            if received > size:
                raise UserError(f"The body is longer than the {size} bytes that were announced.")
            await asyncio.to_thread(put, batch)
        if received != size:
            raise UserError(f"The body has {received} bytes, but {size} were announced.")
        await asyncio.to_thread(flush)
    return digest.hexdigest()


async def _batches(request: Request) -> AsyncIterator[bytes]:
    batch = bytearray()
    try:
        async for chunk in request.stream():
            batch += chunk
            if len(batch) >= _BATCH:
                yield bytes(batch)
                batch.clear()
    except ClientDisconnect:
        raise UserError("The connection closed before the end of the body: send it again.") from None
    if batch:
        yield bytes(batch)
