"""A hostile tar.gz, member by member, without writing anything.

``members`` is the only way to an uploaded archive's content. What it yields is safe to place below a folder:
relative UTF-8 names without ``..``; only files, folders, symlinks that stay inside, and hard links to files
before them; no member lies below a symlink, no name changes its kind. The rest raises.

``tarfile`` reads the headers. By itself it would read a header of any size into memory, end silently at a
damaged one, and keep every member; ``_Bounded`` and ``_infos`` see to that.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from thawbox.errors import TooLarge, UserError

from .fields import shown
from .names import relative_name, symlink_target

CHUNK = 256 * 1024
MAX_ENTRIES = 200_000
MAX_NAMES_BYTES = 32 * 1024 * 1024
"""All names together, folders that are only implied included."""
MAX_HEADER_BYTES = 1024 * 1024
"""What may lie between the end of one member and the content of the next."""
MAX_RATIO = 200
"""Deflate reaches 1032 on zeros; text and programs stay far below."""
RATIO_FROM_BYTES = 256 * 1024 * 1024
"""Small archives may be as dense as they like."""

_BLOCK = tarfile.BLOCKSIZE
_DAMAGED = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)


class Kind(StrEnum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    HARD_LINK = "hardlink"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry; its name is relative, without ``.`` and ``..``; the archive's top is ``.``."""

    name: str
    kind: Kind
    mode: int
    """Permission bits with setuid, setgid and sticky."""
    mtime: int
    size: int
    """Bytes of content; of a hard link: of the file that it names."""
    target: str
    """Of a symlink as written; of a hard link the other member's name; else empty."""
    climbs: int
    """How many ``../`` the name began with."""


def members(
    path: Path, *, max_bytes: int | None = None, max_entries: int = MAX_ENTRIES
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Every member of the tar.gz at ``path``, with its content in pieces of at most 256 KiB.

    The content has to be read, if at all, before the next member is asked for. ``max_bytes`` bounds what the
    archive unpacks to.

    Raises:
        UserError: not a sound tar.gz, or a member that could do harm; names it.
        TooLarge: more entries or bytes than allowed, or a decompression bomb.
    """
    packed_bytes = path.stat().st_size
    if not packed_bytes:
        # To gzip this is fine.
        raise UserError("The archive is empty (0 bytes); upload a .tar.gz")
    try:
        with gzip.open(path, "rb") as unpacked:
            stream = _Bounded(unpacked, max_bytes, packed_bytes)
            yield from _members(stream, max_bytes, max_entries)
            stream.drain()
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" in str(error):
            raise UserError(
                "The archive is not a gzip file, or has something behind it; upload a .tar.gz"
            ) from None
        raise UserError("The archive is damaged, its checksum is wrong; upload it again") from None
    except (EOFError, zlib.error):
        raise UserError("The archive is truncated or damaged; upload it again") from None


class _Bounded:
    """The unpacked stream, as much of a file as ``tarfile`` needs, with every bound enforced on the way."""

    def __init__(self, raw: gzip.GzipFile, max_bytes: int | None, packed_bytes: int) -> None:
        self._raw = raw
        self._position = 0
        self._max = max_bytes
        self._ratio_bytes = max(RATIO_FROM_BYTES, packed_bytes * MAX_RATIO)
        self.header_left = MAX_HEADER_BYTES
        self.last = b""
        """What was read last, to tell a proper end from a damaged header."""

    def read(self, size: int) -> bytes:
        """For ``tarfile``: ``size`` bytes of header, or what there is."""
        self.header_left -= size
        if size < 0 or self.header_left < 0:
            raise UserError(f"The archive has a header of more than {MAX_HEADER_BYTES} bytes; pack it again")
        pieces = []
        while size and (piece := self.piece(size)):
            size -= len(piece)
            pieces.append(piece)
        self.last = b"".join(pieces)
        return self.last

    def piece(self, size: int) -> bytes:
        """Content: at most ``size`` bytes, empty at the end."""
        piece = self._raw.read(min(size, CHUNK))
        self._position += len(piece)
        if self._max is not None and self._position > self._max:
            raise TooLarge(
                f"The archive unpacks to more than {self._max} bytes; leave files out (.dockerignore)"
            )
        if self._position > self._ratio_bytes:
            raise TooLarge(
                f"The archive unpacks to more than {MAX_RATIO} times its size; it looks like a bomb"
            )
        return piece

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """``tarfile`` seeks only if content was left over, and we never leave any."""
        raise tarfile.ReadError(f"seek to {position}")

    def drain(self) -> None:
        """Read to the end, so that the checksum is checked and nothing big hides behind the last member."""
        while self.piece(CHUNK):
            pass


def _members(
    stream: _Bounded, max_bytes: int | None, max_entries: int
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    names = _Names()
    linked_bytes = 0
    for count, (info, end) in enumerate(_infos(stream), start=1):
        if count > max_entries:
            raise TooLarge(
                f"The archive has more than {max_entries} entries; leave files out (.dockerignore)"
            )
        member = names.admit(info)
        if member.kind is Kind.HARD_LINK:
            # A link becomes a file when it is placed.
            linked_bytes += member.size
            if max_bytes is not None and linked_bytes + stream.tell() > max_bytes:
                raise TooLarge(
                    f"The archive's hard links unpack to more than {max_bytes} bytes; leave files out"
                )
        content = _content(stream, info.size if member.kind is Kind.FILE else 0, member.name)
        yield member, content
        for _ in content:
            pass
        while stream.tell() < end:
            if not stream.piece(end - stream.tell()):
                raise UserError(f"The archive ends inside {shown(member.name)}; upload it again")


def _infos(stream: _Bounded) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Headers, each with the position of the next."""
    try:
        # Takes whatever has read, tell and seek; the stubs ask for a whole file.
        tar = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
    except tarfile.ReadError as error:
        if str(error) == "empty file" or (stream.last and not stream.last.strip(b"\0")):
            return
        raise UserError("The archive is not a tar inside its gzip; pack it with tar -czf") from None
    except _DAMAGED:
        raise UserError("The archive has a damaged first header; pack it again") from None
    while True:
        try:
            info = tar.next()
        except _DAMAGED:
            raise UserError("The archive has a damaged header; pack it again") from None
        if info is None:
            if stream.last.strip(b"\0") or len(stream.last) not in (0, _BLOCK):
                raise UserError("The archive has a damaged header; pack it again")
            return
        tar.members.clear()  # type: ignore[attr-defined]
        if info.issparse():
            raise UserError(f"{_said(info)} is a sparse file; pack without --sparse")
        if info.size < 0 or tar.offset < stream.tell():
            raise UserError(f"{_said(info)} has a negative size; pack it again")
        yield info, tar.offset
        stream.header_left = MAX_HEADER_BYTES


def _content(stream: _Bounded, size: int, name: str) -> Iterator[bytes]:
    left = size
    while left:
        piece = stream.piece(left)
        if not piece:
            raise UserError(f"The archive ends inside {shown(name)}; upload it again")
        left -= len(piece)
        yield piece


class _Names:
    """What the members seen so far make of each name."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def admit(self, info: tarfile.TarInfo) -> Member:
        """The member of a header, once nothing speaks against it."""
        said = _said(info)
        name, climbs = relative_name(info.name, said)
        kind = _kind(info, said)
        if name == "." and kind is not Kind.FOLDER:
            raise UserError(f"{said} is the archive's top, but not a folder; pack it again")
        target, size = "", info.size if kind is Kind.FILE else 0
        if kind is Kind.SYMLINK:
            target = symlink_target(name, info.linkname, said)
        elif kind is Kind.HARD_LINK:
            target, target_climbs = relative_name(info.linkname, f"The hard link {shown(info.name)}")
            if target not in self._sizes or target_climbs != climbs or target == name:
                raise UserError(
                    f"{said} is a hard link to {shown(info.linkname)}, not a file before it; pack a copy"
                )
            size = self._sizes[target]
        self._enter(name, kind, said)
        if kind in (Kind.FILE, Kind.HARD_LINK):
            self._sizes[name] = size
        # A pax header can say "nan" or "inf".
        mtime = int(info.mtime) if 0 <= info.mtime < 2**33 else 0
        return Member(name, kind, info.mode & 0o7777, mtime, size, target, climbs)

    def _enter(self, name: str, kind: Kind, said: str) -> None:
        kind = Kind.FILE if kind is Kind.HARD_LINK else kind
        before = self._kinds.get(name)
        if before is None:
            self._remember(name, kind)
        elif before is not kind:
            raise UserError(f"{said} is both a {before} and a {kind}; remove one of the two")
        while name != ".":
            name = name.rpartition("/")[0] or "."
            known = self._kinds.get(name)
            if known is Kind.FOLDER:
                return
            if known is not None:
                raise UserError(f"{said} lies below {shown(name)}, which is a {known}; remove one of the two")
            self._remember(name, Kind.FOLDER)

    def _remember(self, name: str, kind: Kind) -> None:
        self._kinds[name] = kind
        self._bytes += len(name.encode())
        if self._bytes > MAX_NAMES_BYTES:
            raise TooLarge(f"The archive's names take more than {MAX_NAMES_BYTES} bytes; leave files out")


def _kind(info: tarfile.TarInfo, said: str) -> Kind:
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        return Kind.FILE
    if info.isdir():
        return Kind.FOLDER
    if info.issym():
        return Kind.SYMLINK
    if info.islnk():
        return Kind.HARD_LINK
    what = "a device" if info.ischr() or info.isblk() else "a pipe" if info.isfifo() else "of an unknown type"
    raise UserError(f"{said} is {what}; only files, folders and links can be copied")


def _said(info: tarfile.TarInfo) -> str:
    return f"Entry {shown(info.name)}"
