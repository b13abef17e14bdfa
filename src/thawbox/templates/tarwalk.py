"""Reads a hostile tar.gz member by member, without writing anything.

Only ``members`` reads the content of uploaded archives. What it yields can safely be placed below a folder: names are
relative UTF-8 without ``..``; members are files, folders, symlinks that stay inside, and hard links to earlier files;
no member lies below a symlink, and no name changes its kind. Everything else raises.

``tarfile`` reads the headers. By itself it would read a header of any size into memory, end silently at a damaged
header, and keep every member in memory. ``_Bounded`` and ``_infos`` prevent that.
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

from .fields import quoted
from .names import relative_name, symlink_target

CHUNK = 256 * 1024
MAX_ENTRIES = 200_000
MAX_NAMES_BYTES = 32 * 1024 * 1024
"""Bytes of all names together, including those of folders that are only implied by names below them."""
MAX_HEADER_BYTES = 1024 * 1024
"""The most bytes between the end of one member and the content of the next."""
MAX_RATIO = 200
"""The most unpacked bytes per packed byte. Deflate reaches 1032 on zeros; text and programs stay far below 200."""
RATIO_FROM_BYTES = 256 * 1024 * 1024
"""``MAX_RATIO`` is checked only after this many unpacked bytes: small archives do no harm."""

_BLOCK = tarfile.BLOCKSIZE
_DAMAGED = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)


class Kind(StrEnum):
    """The kind of a member."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    HARD_LINK = "hardlink"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. Its name is relative, without ``.`` and ``..``; the archive's top folder is ``.``."""

    name: str
    kind: Kind
    mode: int
    """Permission bits, including setuid, setgid and sticky."""
    mtime: int
    """Seconds since 1970."""
    size: int
    """Bytes of content; for a hard link, those of the file that it refers to."""
    target: str
    """For a symlink, the target as written; for a hard link, the name of the other member; else empty."""
    climbs: int
    """How many ``../`` the name began with."""


def members(
    path: Path, *, max_bytes: int | None = None, max_entries: int = MAX_ENTRIES
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Every member of the tar.gz at ``path``, with its content in pieces of at most 256 KiB.

    Read the content, if at all, before you take the next member. ``max_bytes`` bounds the unpacked size; None: no
    bound.

    Raises:
        UserError: it is not an intact tar.gz, or a member could do harm; the message names the member.
        TooLarge: it has more entries or bytes than allowed, or is a decompression bomb.
    """
    packed_bytes = path.stat().st_size
    if not packed_bytes:
        # gzip.open accepts an empty file.
        raise UserError("The archive is empty (0 bytes); upload a .tar.gz")
    try:
        with gzip.open(path, "rb") as unpacked:
            stream = _Bounded(unpacked, max_bytes, packed_bytes)
            yield from _members(stream, max_bytes, max_entries)
            stream.drain()
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" in str(error):
            raise UserError(
                "The archive is not a gzip file, or has other data behind it; upload a .tar.gz"
            ) from None
        raise UserError("The archive is damaged, its checksum is wrong; upload it again") from None
    except (EOFError, zlib.error):
        raise UserError("The archive is truncated or damaged; upload it again") from None


class _Bounded:
    """The unpacked stream, with the methods of a file that ``tarfile`` needs. It enforces every bound."""

    def __init__(self, raw: gzip.GzipFile, max_bytes: int | None, packed_bytes: int) -> None:
        self._raw = raw
        self._position = 0
        self._max = max_bytes
        self._ratio_bytes = max(RATIO_FROM_BYTES, packed_bytes * MAX_RATIO)
        self.header_left = MAX_HEADER_BYTES
        self.last = b""
        """The bytes that were read last. They show whether the archive ends properly or has a damaged header."""

    def read(self, size: int) -> bytes:
        """For ``tarfile``: ``size`` bytes of header, fewer at the end."""
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
        """At most ``size`` bytes of content; empty at the end."""
        piece = self._raw.read(min(size, CHUNK))
        self._position += len(piece)
        if self._max is not None and self._position > self._max:
            raise TooLarge(
                f"The archive unpacks to more than {self._max} bytes; leave files out (.dockerignore)"
            )
        if self._position > self._ratio_bytes:
            raise TooLarge(
                f"The archive unpacks to more than {MAX_RATIO} times its size, like a decompression bomb; pack less"
            )
        return piece

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Always raises. ``tarfile`` seeks only over content that was not read, and all content is read."""
        raise tarfile.ReadError(f"seek to {position}")

    def drain(self) -> None:
        """Read to the end. This verifies the checksum, and applies the bounds to what lies behind the last member."""
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
            # A hard link becomes a file when it is placed.
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
                raise UserError(f"The archive ends inside {quoted(member.name)}; upload it again")


def _infos(stream: _Bounded) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """The header of each member, with the position of the next header."""
    try:
        # It accepts any object with read, tell and seek, although its stubs demand a whole file.
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
            raise UserError(f"{_subject(info)} is a sparse file; pack without --sparse")
        if info.size < 0 or tar.offset < stream.tell():
            raise UserError(f"{_subject(info)} has a negative size; pack it again")
        yield info, tar.offset
        stream.header_left = MAX_HEADER_BYTES


def _content(stream: _Bounded, size: int, name: str) -> Iterator[bytes]:
    left = size
    while left:
        piece = stream.piece(left)
        if not piece:
            raise UserError(f"The archive ends inside {quoted(name)}; upload it again")
        left -= len(piece)
        yield piece


class _Names:
    """The names of the members so far, with the kind and size of each."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def admit(self, info: tarfile.TarInfo) -> Member:
        """The member that ``info`` describes, after all checks.

        Raises:
            UserError: the member could do harm, or contradicts an earlier one.
            TooLarge: the names take too many bytes.
        """
        subject = _subject(info)
        name, climbs = relative_name(info.name, subject)
        kind = _kind(info, subject)
        if name == "." and kind is not Kind.FOLDER:
            raise UserError(f"{subject} is the archive's top but not a folder; pack it again")
        target, size = "", info.size if kind is Kind.FILE else 0
        if kind is Kind.SYMLINK:
            target = symlink_target(name, info.linkname, subject)
        elif kind is Kind.HARD_LINK:
            target, target_climbs = relative_name(info.linkname, f"The hard link {quoted(info.name)}")
            if target not in self._sizes or target_climbs != climbs or target == name:
                raise UserError(
                    f"{subject} is a hard link to {quoted(info.linkname)}, which is no earlier file; pack a copy"
                )
            size = self._sizes[target]
        self._enter(name, kind, subject)
        if kind in (Kind.FILE, Kind.HARD_LINK):
            self._sizes[name] = size
        # A pax header can contain "nan" or "inf".
        mtime = int(info.mtime) if 0 <= info.mtime < 2**33 else 0
        return Member(name, kind, info.mode & 0o7777, mtime, size, target, climbs)

    def _enter(self, name: str, kind: Kind, subject: str) -> None:
        kind = Kind.FILE if kind is Kind.HARD_LINK else kind
        before = self._kinds.get(name)
        if before is None:
            self._remember(name, kind)
        elif before is not kind:
            raise UserError(f"{subject} is both a {before} and a {kind}; remove one of the two")
        while name != ".":
            name = name.rpartition("/")[0] or "."
            known = self._kinds.get(name)
            if known is Kind.FOLDER:
                return
            if known is not None:
                raise UserError(
                    f"{subject} lies below {quoted(name)}, which is a {known}; remove one of the two"
                )
            self._remember(name, Kind.FOLDER)

    def _remember(self, name: str, kind: Kind) -> None:
        self._kinds[name] = kind
        self._bytes += len(name.encode())
        if self._bytes > MAX_NAMES_BYTES:
            raise TooLarge(f"The archive's names take more than {MAX_NAMES_BYTES} bytes; leave files out")


def _kind(info: tarfile.TarInfo, subject: str) -> Kind:
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        return Kind.FILE
    if info.isdir():
        return Kind.FOLDER
    if info.issym():
        return Kind.SYMLINK
    if info.islnk():
        return Kind.HARD_LINK
    what = "a device" if info.ischr() or info.isblk() else "a pipe" if info.isfifo() else "of an unknown type"
    raise UserError(f"{subject} is {what}; only files, folders and links can be copied")


def _subject(info: tarfile.TarInfo) -> str:
    return f"Entry {quoted(info.name)}"
