"""The files of a COPY step: checks an uploaded tar.gz, digests its content, streams it into a sandbox.

Nothing here unpacks an archive. ``tarwalk`` guarantees what its members can be.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from thawbox.errors import InternalFault, InvalidTemplate, UserError
from thawbox.settings import Settings

from .fields import quoted
from .names import relative_name
from .recipe import CopyStep
from .tarwalk import CHUNK, Kind, Member, members


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """What is in a checked archive."""

    entries: int
    files: int
    """Regular files, hard links included."""
    unpacked_bytes: int
    """Content of all files, hard links counted in full."""
    outside_context: bool
    """Whether names began with ``../``. Clients pack absolute sources so."""
    top_level: tuple[tuple[str, bool], ...]
    """Members that lie in no other member, as (name, whether it is a folder), in the archive's order."""
    link_targets: frozenset[str]
    """Names of the files that later hard links refer to."""
    digest: str
    """``content_digest`` of the archive."""


def check_archive(path: Path, *, settings: Settings) -> ArchiveReport:
    """Read the tar.gz at ``path`` once from beginning to end, and report what is in it.

    Raises:
        UserError: it is not an intact tar.gz, or an entry could do harm; the message names the entry.
        TooLarge: it unpacks to more than ``settings.upload_unpacked_max_bytes``, has too many entries, or is a
            decompression bomb.
    """
    return _report(members(path, max_bytes=settings.upload_unpacked_max_bytes))


def content_digest(path: Path) -> str:
    """The sha256 (64 hex digits) of what the tar.gz at ``path`` would copy.

    It covers the name, kind, mode, link target and content of each member. It ignores order, times and owners, so
    the same files packed on another machine have the same digest. If several members have one name, the last one
    counts. A hard link counts as a file.

    Raises:
        UserError, TooLarge: as ``check_archive``.
    """
    return _report(members(path)).digest


def check_step_sources(report: ArchiveReport, step: CopyStep) -> None:
    """Check that this archive can hold the sources that ``step`` names.

    Raises:
        InvalidTemplate: it is empty, or its names leave the context although the step's sources do not.
    """
    sources = quoted(", ".join(step.sources))
    if not report.entries:
        raise InvalidTemplate(f"copy {sources}: the uploaded archive is empty; check that the source exists")
    if report.outside_context and not all(source.startswith("/") for source in step.sources):
        raise InvalidTemplate(
            f"copy {sources}: the uploaded archive leaves the build context; copy from inside it"
        )


def open_plain_tar(path: Path, report: ArchiveReport) -> Iterator[bytes]:
    """The checked archive as an uncompressed tar, in pieces of 256 KiB (the last may be shorter).

    The tar has clean names, uid and gid 0, and only folders, files and symlinks: hard links become files. Files that
    hard links refer to are kept in an unnamed temporary file, so little memory is needed. Close the iterator if you
    stop early.

    Raises:
        UserError, TooLarge: the file is not what ``report`` was made from.
    """
    return _in_chunks(_plain_pieces(path, report.link_targets))


def single_file_tar(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """Files that were uploaded one by one, as a tar like that of ``open_plain_tar``.

    ``files`` holds pairs of the relative path and the file with its content. Modes are 0644 and times 0, because the
    uploads carry neither.

    Raises:
        UserError: a path is absolute or leaves the context.
    """
    named = [(_file_name(name), path) for name, path in files]
    return _in_chunks(_file_pieces(named))


def files_digest(files: Sequence[tuple[str, Path]]) -> str:
    """The ``content_digest`` (64 hex digits) of the tar that ``single_file_tar`` makes of ``files``."""
    lines: dict[str, bytes] = {}
    for name, path in files:
        clean = _file_name(name)
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines[clean] = _line(clean, Kind.FILE, 0o644, "", digest)
    return _digest_of(lines)


def _report(walk: Iterable[tuple[Member, Iterator[bytes]]]) -> ArchiveReport:
    lines: dict[str, bytes] = {}
    contents: dict[str, str] = {}
    folders: dict[str, bool] = {}
    targets: set[str] = set()
    entries = files = size = 0
    climbs: int | None = None
    for member, content in walk:
        entries += 1
        if climbs is not None and climbs != member.climbs:
            raise UserError(
                f"Entry {quoted(member.name)} and others begin with different numbers of '../'; "
                "pack sources inside and outside the context separately"
            )
        climbs = member.climbs
        digest = ""
        if member.kind is Kind.FILE:
            hasher = hashlib.sha256()
            for piece in content:
                hasher.update(piece)
            digest = hasher.hexdigest()
        elif member.kind is Kind.HARD_LINK:
            digest = contents[member.target]
            targets.add(member.target)
        if digest:
            contents[member.name] = digest
            files += 1
            size += member.size
        kind = Kind.FILE if member.kind is Kind.HARD_LINK else member.kind
        target = member.target if kind is Kind.SYMLINK else ""
        lines[member.name] = _line(member.name, kind, member.mode, target, digest)
        folders[member.name] = kind is Kind.FOLDER
    return ArchiveReport(
        entries=entries,
        files=files,
        unpacked_bytes=size,
        outside_context=bool(climbs),
        top_level=tuple(
            (name, folder) for name, folder in folders.items() if not _has_ancestor(name, folders)
        ),
        link_targets=frozenset(targets),
        digest=_digest_of(lines),
    )


def _has_ancestor(name: str, known: dict[str, bool]) -> bool:
    while name != ".":
        name = name.rpartition("/")[0] or "."
        if name in known:
            return True
    return False


def _line(name: str, kind: Kind, mode: int, target: str, digest: str) -> bytes:
    """One member's part of the digest. It is hashed itself, so that many long names need little memory."""
    # The mode of a symlink has no effect, and differs between systems.
    line = json.dumps([name, kind.value, 0 if kind is Kind.SYMLINK else mode, target, digest])
    return hashlib.sha256(line.encode()).digest()


def _digest_of(lines: dict[str, bytes]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(lines):
        hasher.update(lines[name])
    return hasher.hexdigest()


def _plain_pieces(path: Path, link_targets: frozenset[str]) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as kept:
        places: dict[str, tuple[int, int]] = {}
        for member, content in members(path):
            yield _header(member)
            if member.kind is Kind.HARD_LINK:
                if member.target not in places:
                    raise UserError(
                        f"The archive changed: {quoted(member.target)} was not linked to before; upload it again"
                    )
                start, size = places[member.name] = places[member.target]
                yield from _kept(kept, start, size)
            elif member.name in link_targets and member.kind is Kind.FILE:
                start = kept.seek(0, 2)
                for piece in content:
                    kept.write(piece)
                    yield piece
                places[member.name] = (start, member.size)
            else:
                yield from content
            yield _padding(member.size)
    yield _END


def _kept(kept: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    for offset in range(start, start + size, CHUNK):
        kept.seek(offset)
        yield kept.read(min(CHUNK, start + size - offset))


def _file_pieces(files: list[tuple[str, Path]]) -> Iterator[bytes]:
    for name, path in files:
        with path.open("rb") as content:
            size = content.seek(0, 2)
            content.seek(0)
            yield _header(Member(name, Kind.FILE, 0o644, 0, size, "", 0))
            left = size
            while left:
                piece = content.read(min(CHUNK, left))
                if not piece:
                    raise InternalFault(f"the uploaded file {quoted(name)} became shorter while it was read")
                left -= len(piece)
                yield piece
            yield _padding(size)
    yield _END


def _file_name(name: str) -> str:
    clean, climbs = relative_name(name, f"The uploaded path {quoted(name)}")
    if climbs or clean == ".":
        raise UserError(f"The uploaded path {quoted(name)} is not inside the context; use a relative path")
    return clean


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.mode, info.mtime = member.mode, member.mtime
    if member.kind is Kind.FOLDER:
        info.type = tarfile.DIRTYPE
    elif member.kind is Kind.SYMLINK:
        info.type, info.linkname = tarfile.SYMTYPE, member.target
    else:
        info.size = member.size
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


_END = bytes(2 * tarfile.BLOCKSIZE)


def _in_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """``pieces``, joined and cut into chunks of exactly 256 KiB; the last may be shorter."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= CHUNK:
            yield bytes(buffer[:CHUNK])
            del buffer[:CHUNK]
    if buffer:
        yield bytes(buffer)
