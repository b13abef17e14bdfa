"""Packs the tar.gz of one COPY step from a folder on the client's machine.

Its layout is that of the published clients: docs/reference/compatibility/uploads.md#the-archive.

Names are relative to the context. A source can be a file, a folder or a pattern, and ``.dockerignore`` is obeyed. The
result has passed the checks that the server makes as well.
"""

from __future__ import annotations

import gzip
import os
import posixpath
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec

from thawbox.errors import UserError

from .archive import content_digest
from .fields import quoted

_MAGIC = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedContext:
    """The packed files. ``path`` is a temporary file that the caller must remove; ``digest`` (64 hex digits) can be
    sent as ``files_hash``."""

    path: Path
    size_bytes: int
    digest: str


def read_ignore(context: Path) -> str:
    """The text of the context's ``.dockerignore``; empty if it has no such file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return (context / ".dockerignore").read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f".dockerignore cannot be read ({error}); correct or remove it") from None


def pack_context(context: Path, sources: Sequence[str], *, ignore: str = "") -> PackedContext:
    """Pack ``sources`` of the folder ``context``, except what the ``.dockerignore`` text ``ignore`` names.

    As in Docker, a source with a leading ``/`` is below the context; ``*``, ``?`` and ``[a-z]`` match within one
    name, ``**`` matches any number of folders, and ``DIR/**`` means DIR. A source that is a symlink is replaced by
    what it points to. Symlinks below a folder stay symlinks.

    Raises:
        UserError: a source is missing, ignored, or outside the context; or a file cannot be read or copied.
    """
    rules = _Rules(ignore)
    try:
        root = context.resolve(strict=True)
    except OSError:
        raise UserError(f"The context {quoted(str(context))} does not exist; name a folder") from None
    if not root.is_dir():
        raise UserError(f"The context {quoted(str(context))} is not a folder; name a folder")
    handle, name = tempfile.mkstemp(prefix="thawbox-context-", suffix=".tar.gz")
    packed = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=6) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for entry in _entries(root, sources, rules):
                _add(tar, root, *entry)
        return PackedContext(path=packed, size_bytes=packed.stat().st_size, digest=content_digest(packed))
    except BaseException:
        packed.unlink(missing_ok=True)
        raise


class _Rules:
    """The rules of ``.dockerignore``. Patterns are relative to the context, the last match counts, and ``!`` includes
    again what an earlier pattern excluded."""

    def __init__(self, text: str) -> None:
        lines = []
        for line in text.splitlines():
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            back, pattern = pattern.startswith("!"), pattern.removeprefix("!").strip()
            pattern = posixpath.normpath(pattern).lstrip("/")
            if pattern and pattern != ".":
                lines.append(("!/" if back else "/") + pattern)
        self.takes_back = any(line.startswith("!") for line in lines)
        try:
            # With a leading "/", git's patterns mean the same as Docker's.
            self._spec = pathspec.PathSpec.from_lines("gitignore", lines)
        except ValueError as error:
            raise UserError(f".dockerignore has an invalid pattern ({error}); correct it") from None

    def ignored(self, name: str) -> bool:
        return name != "." and self._spec.match_file(name)


def _entries(root: Path, sources: Sequence[str], rules: _Rules) -> Iterator[tuple[str, Path]]:
    """The name in the archive and the path of everything to pack, each once."""
    done: set[str] = set()
    for source in sources:
        for name in _matches(root, source, rules):
            place = _inside(root, name, source)
            for entry, path in [(name, place), *(_below(name, place, rules) if place.is_dir() else ())]:
                if entry not in done:
                    done.add(entry)
                    yield entry, path


def _matches(root: Path, source: str, rules: _Rules) -> list[str]:
    """The names relative to ``root`` that match ``source``; at least one."""
    clean = posixpath.normpath("./" + source.lstrip("/")) if source.strip() else ""
    clean = clean.removesuffix("/**") if clean != "**" else "."
    if not clean or clean == ".." or clean.startswith("../"):
        raise UserError(
            f"Source {quoted(source)} is outside the context; copy from inside it, or choose a larger --context"
        )
    literal = clean == "." or os.path.lexists(root / clean)
    if not literal and not _MAGIC.search(clean):
        raise UserError(f"Source {quoted(source)} does not exist in the context; check its name")
    found = [clean] if literal else sorted(_glob(root, "", clean.split("/"), source))
    if not found:
        raise UserError(f"Source {quoted(source)} matches nothing in the context; check the pattern")
    # An ignored folder is kept if a rule may include some of its content again.
    kept = [
        name for name in found if not rules.ignored(name) or (rules.takes_back and (root / name).is_dir())
    ]
    if not kept:
        raise UserError(
            f"Source {quoted(source)} is excluded by .dockerignore; include it again with a line !NAME"
        )
    return kept


def _glob(root: Path, base: str, parts: list[str], source: str) -> Iterator[str]:
    if not parts:
        yield base
        return
    head, rest = parts[0], parts[1:]
    folder = root / base
    if not folder.is_dir() or (base and folder.is_symlink()):
        return
    if head == "**":
        yield from _glob(root, base, rest, source)
        for name in sorted(os.listdir(folder)):
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                yield from _glob(root, posixpath.join(base, name), parts, source)
        return
    pattern = _pattern(head, source)
    for name in sorted(os.listdir(folder)):
        if pattern.fullmatch(name):
            yield from _glob(root, posixpath.join(base, name), rest, source)


def _pattern(part: str, source: str) -> re.Pattern[str]:
    """One component of a pattern, by the rules of Go's filepath.Match."""
    regex, index = "", 0
    while index < len(part):
        char = part[index]
        index += 1
        if char == "*":
            regex += ".*"
        elif char == "?":
            regex += "."
        elif char == "[":
            closing = part.find("]", index + 1)
            if closing < 0:
                raise UserError(f"Source {quoted(source)} has a '[' without ']'; close it or write \\[")
            inner = part[index:closing]
            negated = inner.startswith("^")
            escaped = "".join(f"\\{c}" if c in "[&~|^" else c for c in inner[negated:])
            regex += f"[{'^' if negated else ''}{escaped}]"
            index = closing + 1
        elif char == "\\" and index < len(part):
            regex += re.escape(part[index])
            index += 1
        else:
            regex += re.escape(char)
    try:
        return re.compile(regex, re.DOTALL)
    except re.error:
        raise UserError(
            f"Source {quoted(source)} is not a valid pattern; correct the part {quoted(part)}"
        ) from None


def _inside(root: Path, name: str, source: str) -> Path:
    """The real path of a source. Symlinks on the way must not lead out of ``root``."""
    try:
        place = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        raise UserError(f"Source {quoted(source)} is a symlink to nothing; correct or remove it") from None
    if place != root and root not in place.parents:
        raise UserError(
            f"Source {quoted(source)} leads out of the context through a symlink; put the file itself there"
        )
    return place


def _below(name: str, folder: Path, rules: _Rules) -> Iterator[tuple[str, Path]]:
    try:
        children = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{quoted(name)} cannot be read ({error.strerror}); change its permissions") from None
    for child in children:
        entry = child if name == "." else f"{name}/{child}"
        path = folder / child
        is_folder = path.is_dir() and not path.is_symlink()
        ignored = rules.ignored(entry)
        if not ignored:
            yield entry, path
        if is_folder and (not ignored or rules.takes_back):
            yield from _below(entry, path, rules)


def _add(tar: tarfile.TarFile, root: Path, name: str, path: Path) -> None:
    """Add one entry, without what differs between machines: owner and access times."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{quoted(name)} has a name that is not UTF-8; rename it") from None
    info = tarfile.TarInfo(name)
    try:
        status = path.lstat()
        info.mode, info.mtime = stat.S_IMODE(status.st_mode), max(0, int(status.st_mtime))
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        elif stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
            tar.addfile(info)
        elif stat.S_ISREG(status.st_mode):
            with path.open("rb") as content:
                info.size = os.fstat(content.fileno()).st_size
                tar.addfile(info, content)
        else:
            raise UserError(f"{quoted(name)} is a device, pipe or socket; leave it out (.dockerignore)")
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{quoted(name)} cannot be packed ({error}); check that it can be read") from None
