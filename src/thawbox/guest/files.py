"""Files inside a sandbox."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from thawbox.agent import protocol
from thawbox.errors import GuestFault

from .channel import QUICK_S, Endpoint, GuestError, call, connect, deadline, upload
from .fields import Object, field

UPLOAD_S = 3600.0


LISTING_MAX = 200_000
"""Most entries of one folder that are accepted."""


@dataclass(frozen=True)
class FileInfo:
    """State of a path: ``type`` is file, directory, symlink, fifo, socket or device; ``size`` in bytes; ``mtime`` in
    seconds since 1970; ``target`` only of a symlink."""

    type: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: float
    target: str | None = None
    leads_to: str | None = None
    """Type of the target of a symlink; None for other types, or if there is no target."""
    name: str | None = None
    """Only in a listing."""


@asynccontextmanager
async def read_file(
    endpoint: Endpoint, path: str, *, offset: int = 0, length: int | None = None
) -> AsyncIterator[tuple[FileInfo, AsyncIterator[bytes]]]:
    """State and content of a regular file. The content may end earlier or later than ``size`` says.

    Raises:
        GuestError: NOT_FOUND, IS_DIRECTORY, NOT_REGULAR, or an errno's name.
    """
    fields: Object = {"path": path, "offset": offset, "length": length}
    async with connect(endpoint, "read", fields) as channel:
        async with deadline(QUICK_S):
            info = _file_info(await channel.expect_object(protocol.RESULT))
        yield info, channel.stream()


async def write_file(
    endpoint: Endpoint,
    path: str,
    chunks: AsyncIterable[bytes] | bytes,
    *,
    mode: int | None = None,
    overwrite: bool = True,
    mkdirs: bool = True,
    user: str | None = None,
    timeout: float = UPLOAD_S,
) -> int:
    """Put a file in place, whole or not at all; returns its size.

    Raises:
        GuestError: ALREADY_EXISTS, IS_DIRECTORY, NOT_REGULAR, NOT_FOUND, or an errno's name (ENOSPC).
    """
    fields: Object = {"path": path, "mode": mode, "overwrite": overwrite, "mkdirs": mkdirs, "user": user}
    async with deadline(timeout):
        return field(await upload(endpoint, "write", fields, chunks), "size", int)


async def receive_file(
    endpoint: Endpoint,
    chunks: AsyncIterable[bytes],
    *,
    path: str | None,
    name: str,
    late_path: Callable[[], str],
    staging: str,
    user: str | None = None,
    timeout: float = UPLOAD_S,
) -> tuple[str, int]:
    """As ``write_file``, but ``path`` may be a folder, in which the file is called ``name``.

    Without ``path``, the file waits in the folder ``staging``, and ``late_path`` is called after the last chunk.
    Returns the path of the file, and its size in bytes.

    Raises:
        GuestError, GuestFault: as ``write_file``.
    """
    late = staging if path is None else None
    fields: Object = {"path": path, "late": late, "name": name, "user": user}
    end = None if path is not None else lambda: {"path": late_path()}
    async with deadline(timeout):
        answer = await upload(endpoint, "write", fields, chunks, end)
    return field(answer, "path", str), field(answer, "size", int)


async def place(
    endpoint: Endpoint,
    chunks: AsyncIterable[bytes] | bytes,
    *,
    dest: str,
    cwd: str = "/",
    owner: str | None = None,
    permissions: str | None = None,
    timeout: float = UPLOAD_S,
) -> tuple[int, int]:
    """One COPY step: ``chunks`` are an uncompressed tar stream. Returns its number of files and bytes.

    Raises:
        GuestError: COPY_FAILED with a sentence for the user; UNKNOWN_USER; an errno's name (ENOSPC).
    """
    fields: Object = {"dest": dest, "cwd": cwd, "owner": owner, "permissions": permissions}
    async with deadline(timeout):
        answer = await upload(endpoint, "place", fields, chunks)
    return field(answer, "files", int), field(answer, "bytes", int)


async def stat(endpoint: Endpoint, path: str, *, follow: bool = False, timeout: float = QUICK_S) -> FileInfo:
    """State of a path; of a link itself unless ``follow``.

    Raises:
        GuestError: NOT_FOUND or an errno's name.
    """
    return _file_info(await call(endpoint, "stat", {"path": path, "follow": follow}, timeout))


async def list_dir(endpoint: Endpoint, path: str, *, timeout: float = 60.0) -> list[FileInfo]:
    """What is in a folder, sorted by name.

    Raises:
        GuestError: NOT_FOUND, ENOTDIR, or another errno's name.
    """
    entries: list[FileInfo] = []
    async with deadline(timeout), connect(endpoint, "list", {"path": path}) as channel:
        async for payload in channel.stream():
            page = channel.json(payload)
            if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
                raise GuestFault("the agent sent a listing that is not valid")
            entries += [_file_info(entry) for entry in page]
            if len(entries) > LISTING_MAX:
                raise GuestError("TOO_LARGE", f"{path} has more than {LISTING_MAX} entries")
    return entries


async def mkdir(
    endpoint: Endpoint,
    path: str,
    *,
    mode: int | None = None,
    parents: bool = False,
    user: str | None = None,
    timeout: float = QUICK_S,
) -> None:
    """Make a folder; with ``parents`` also those above it, and an existing one is fine.

    Raises:
        GuestError: ALREADY_EXISTS, NOT_FOUND, or another errno's name.
    """
    await call(endpoint, "mkdir", {"path": path, "mode": mode, "parents": parents, "user": user}, timeout)


async def remove(endpoint: Endpoint, path: str, *, recursive: bool = False, timeout: float = 60.0) -> None:
    """Remove a file, a link or a folder.

    Raises:
        GuestError: NOT_FOUND, ENOTEMPTY, or another errno's name.
    """
    await call(endpoint, "remove", {"path": path, "recursive": recursive}, timeout)


def _file_info(value: Mapping[str, Any]) -> FileInfo:
    target, leads_to, name = value.get("target"), value.get("leads_to"), value.get("name")
    return FileInfo(
        type=field(value, "type", str),
        size=field(value, "size", int),
        mode=field(value, "mode", int),
        uid=field(value, "uid", int),
        gid=field(value, "gid", int),
        mtime=field(value, "mtime", float),
        target=target if isinstance(target, str) else None,
        leads_to=leads_to if isinstance(leads_to, str) else None,
        name=name if isinstance(name, str) else None,
    )
