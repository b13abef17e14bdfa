"""``thaw cp``: copies files and folders into a sandbox or out of it."""

from __future__ import annotations

import io
import os
import posixpath
import re
import secrets
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

import click
import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from .client import answer, connect, connect_sandbox
from .failure import Failure
from .placing import place_archive, place_file
from .remote import run_plain
from .terminal import console, harmless

_INSIDE = re.compile(r"([0-9A-Za-z]+):(/.*)", re.DOTALL)
_PIECE = 256 * 1024
_TAR_S = 3600
# $1 is the archive, $2 the folder. Owners are not restored: the files belong to the user that commands run as.
_UNPACK = 'mkdir -p -- "$2" && tar -xzof "$1" -C "$2"; s=$?; rm -f -- "$1"; exit $s'
_PACK = 'tar -czf "$1" -C "$2" .'

Advance = Callable[[int], None]


@click.command(short_help="Copy files or folders into a sandbox or out of it.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def cp(source: str, target: str) -> None:
    """Copy SRC to DST. One of the two is SANDBOX:/PATH. The other is a path on this machine, or - to read one file from
    standard input or write it to standard output.

    If DST is an existing folder, SRC is copied into it under its own name. SRC/. means the content of the folder SRC.
    Permissions are kept, owners are not. Copying folders needs tar in the sandbox. A folder from a sandbox is refused
    if it has links that lead out of it.

    \b
    Examples:
      thaw cp data.csv 1763291715051artmzuqw:/workspace/
      thaw cp 1763291715051artmzuqw:/workspace/out ./results
      pg_dump db | thaw cp - 1763291715051artmzuqw:/workspace/db.sql
    """
    into, out = _INSIDE.fullmatch(target), _INSIDE.fullmatch(source)
    if (into is None) == (out is None):
        raise click.UsageError("One of SRC and DST must be SANDBOX:/PATH, the other a path on this machine.")
    for path in (source, target):
        if not path.isprintable():
            raise click.UsageError(
                "SRC and DST must be printable UTF-8. To copy a file with another name, copy its folder."
            )
    inside = into or out
    assert inside is not None
    record_path = f"/v1/sandboxes/{quote(inside[1], safe='')}"
    with connect() as server:
        record = server.call("GET", record_path)
        record["auth_token"] = server.call("POST", f"{record_path}/token/refresh")["auth_token"]
    with connect_sandbox(record) as gateway:
        if into is not None:
            copy_in(gateway, source, into[2])
        else:
            copy_out(gateway, inside[2], target)


def copy_in(gateway: httpx.Client, source: str, target: str) -> None:
    """Copy a file, a folder or (``-``) standard input to the absolute path ``target`` inside.

    Raises:
        Failure: the source does not exist or cannot be packed, or the sandbox refuses it.
        OSError: the source cannot be read.
    """
    if source == "-":
        if target.endswith("/"):
            raise Failure(f"{target} is a folder: add the name of the file that standard input is stored in.")
        _upload(gateway, sys.stdin.buffer, posixpath.basename(target), target, None)
        return
    local = Path(source)
    if not local.exists():
        raise Failure(f"{source} does not exist on this machine.")
    if not local.is_dir():
        with local.open("rb") as content:
            status = os.fstat(content.fileno())
            stored = _upload(gateway, content, local.name, target, status.st_size or None)
        if status.st_mode & 0o111:
            _run(gateway, ["chmod", f"{status.st_mode & 0o777:o}", stored])
        return
    there = _look(gateway, target)
    if there == "file":
        raise Failure(f"{target} is a file in the sandbox; a folder cannot take its place.")
    if there == "folder" and posixpath.basename(source) != ".":
        target = posixpath.join(target, local.resolve().name)
    archive = f"/tmp/.thaw-{secrets.token_hex(8)}.tar.gz"
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
            tar.add(local, arcname=".", filter=_anonymous)
        size = packed.tell()
        packed.seek(0)
        _upload(gateway, packed, "archive", archive, size)
    _run(gateway, ["/bin/sh", "-c", _UNPACK, "sh", archive, target])


def copy_out(gateway: httpx.Client, source: str, target: str) -> None:
    """Copy the file or folder at the absolute path ``source`` inside to ``target``; ``-`` is standard output.

    A file appears only when it is complete. The sandbox is not trusted: only files, folders and links that stay
    inside the target are written, without setuid bits.

    Raises:
        Failure: the source does not exist, or the sandbox refuses or breaks off.
        UserError: the folder holds something that cannot be copied, for example a device.
        OSError: the target cannot be written.
    """
    there = _look(gateway, source)
    if there is None:
        raise Failure(f"{source} does not exist in the sandbox.")
    if there == "folder":
        if target == "-":
            raise Failure(f"{source} is a folder: only a file can be written to standard output.")
        _folder_out(gateway, source, Path(target))
        return
    with _download(gateway, source) as pieces:
        if target == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        local = Path(target)
        if local.is_dir() or target.endswith("/"):
            local /= posixpath.basename(source)
        program = run_plain(gateway, ["test", "-x", source], timeout_s=60).exit_code == 0
        place_file(local, 0o755 if program else 0o644, pieces)


def _folder_out(gateway: httpx.Client, source: str, local: Path) -> None:
    name = posixpath.basename(posixpath.normpath(source))
    if local.is_dir() and posixpath.basename(source) != "." and name:
        local /= name
    archive = f"/tmp/.thaw-{secrets.token_hex(8)}.tar.gz"
    with tempfile.NamedTemporaryFile() as packed:
        try:
            _run(gateway, ["/bin/sh", "-c", _PACK, "sh", archive, source])
            with _download(gateway, archive) as pieces:
                packed.writelines(pieces)
            packed.flush()
        finally:
            gateway.delete("/files/remove", params={"path": archive})
        place_archive(Path(packed.name), local)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove the owner from ``entry``: it means nothing on another machine.

    Raises:
        Failure: the entry cannot be copied.
    """
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        raise Failure(
            f"{harmless(entry.name)} is a device or a pipe; only files, folders and links can be copied."
        )
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _look(gateway: httpx.Client, path: str) -> str | None:
    found = answer(gateway.get("/files/exists", params={"path": path}))
    return None if not found["exists"] else "folder" if found["is_directory"] else "file"


def _run(gateway: httpx.Client, command: list[str]) -> None:
    done = run_plain(gateway, command, timeout_s=_TAR_S)
    if done.exit_code != 0:
        reason = harmless(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
        raise Failure(f"The sandbox could not copy it (status {done.exit_code}): {reason}")


class _ProgressReader(io.RawIOBase):
    """A file to send that reports how many bytes were read. It has no length: that of a pipe would be taken for 0."""

    def __init__(self, content: IO[bytes], advance: Advance) -> None:
        self._content, self._advance = content, advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._content.read(len(buffer))
        buffer[: len(piece)] = piece
        self._advance(len(piece))
        return len(piece)


def _upload(gateway: httpx.Client, content: IO[bytes], name: str, target: str, size: int | None) -> str:
    """Store ``content`` in the sandbox. Returns the path of the file there."""
    with _progress(size) as advance:
        sent = cast(IO[bytes], _ProgressReader(content, advance))
        stored = answer(gateway.post("/files/upload", data={"path": target}, files={"file": (name, sent)}))
    return str(stored["path"])


@contextmanager
def _download(gateway: httpx.Client, path: str) -> Iterator[Iterator[bytes]]:
    with gateway.stream("GET", "/files/download", params={"path": path}) as response:
        if not response.is_success:
            response.read()
            answer(response)
        length = response.headers.get("content-length")
        with _progress(int(length) if length else None) as advance:

            def pieces() -> Iterator[bytes]:
                for piece in response.iter_bytes(_PIECE):
                    advance(len(piece))
                    yield piece

            yield pieces()


@contextmanager
def _progress(total: int | None) -> Iterator[Advance]:
    """A progress bar on standard error while the block runs; only on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("copying", total=total)
        yield lambda count: progress.advance(task, count)
