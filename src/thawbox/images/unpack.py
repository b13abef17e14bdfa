"""Apply one layer to a root tree: ``python -m thawbox.images.unpack ROOT LIMIT < LAYER.tar``.

The layer is an uncompressed OCI layer tar on standard input. Its whiteouts are applied: the files that they name are
removed. ``LIMIT`` is the number of bytes that the layer may use; each entry counts its size and 512 bytes. Device nodes
are left out (sandboxes have their own /dev), and so are extended attributes (a gVisor root has none). Prints the bytes
used. The tar is hostile; ``confined`` keeps it inside the tree. Source of the format: the OCI image specification,
"Image Layer Filesystem Changeset".
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tarfile
from typing import IO, Any, cast

from . import confined

DAMAGED, TOO_BIG = 3, 4
"""Exit statuses."""

_HEADER = 512
_CHUNK = 1024 * 1024
_HEADER_ERROR: type[Exception] = cast(Any, tarfile).HeaderError
_ENDS: tuple[type[Exception], ...] = (cast(Any, tarfile).EOFHeaderError, cast(Any, tarfile).EmptyHeaderError)
"""tarfile raises these at the end of the archive: a block of zeros, or no more bytes."""
_NO_ID = 2**32 - 1
"""For chown this means: do not change."""
_LATEST = 2**33
"""Times after this (year 2242) are replaced by the epoch."""


class BadLayer(Exception):
    """The layer is damaged or hostile."""


class LayerTooBig(BadLayer):
    """The layer needs more bytes than it may use."""


class _StrictHeader(tarfile.TarInfo):
    """Raises an error for a damaged header. tarfile takes it for the end of the archive, and files would be lost."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _StrictHeader:
        try:
            return super().fromtarfile(tarfile)
        except _HEADER_ERROR as error:
            if isinstance(error, _ENDS):
                raise
            raise BadLayer(f"a tar header is damaged ({error})") from error


class _Layer:
    """One layer while it is applied. It remembers the paths that it made, for opaque folders and folder times."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self._made: set[str] = {"/"}
        self._folder_times: dict[str, int] = {}

    def apply(self, archive: tarfile.TarFile) -> None:
        confined.require()
        for member in archive:
            self._spend(_HEADER)
            self._entry(archive, member)
            cast(
                Any, archive
            ).members.clear()  # tarfile keeps every header; a layer may have a million of them
        for path, time_ns in self._folder_times.items():
            if os.path.isdir(path) and not os.path.islink(path):
                os.utime(path, ns=(time_ns, time_ns))

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            if member.isdir():
                self._metadata(member, "/")
            return
        folder = self._folder(parts[:-1])
        name = parts[-1]
        if name == ".wh..wh..opq":
            self._empty_lower(folder)
        elif name.startswith(".wh..wh."):
            pass  # AUFS's metadata
        elif name.startswith(".wh."):
            hidden = name.removeprefix(".wh.")
            if hidden in ("", ".", ".."):
                raise BadLayer(f"the whiteout {member.name!r} names no file")
            _remove(os.path.join(folder, hidden))
        else:
            self._make(archive, member, os.path.join(folder, name))

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if member.ischr() or member.isblk():
            _remove(path)
            return
        if not (member.isdir() and _is_real_folder(path)):
            _remove(path)
            if member.isdir():
                os.mkdir(path, 0o700)
            elif member.issym():
                os.symlink(member.linkname, path)
            elif member.islnk():
                # The link's own header repeats the target's metadata at best: the target keeps what it has.
                os.link(self._link_target(member), path, follow_symlinks=False)
                self._remember(path)
                return
            elif member.isfifo():
                os.mkfifo(path, 0o600)
            elif member.isfile():
                self._write(archive, member, path)
            else:
                return  # entries of other tar formats
        self._metadata(member, path)
        self._remember(path)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if member.size < 0:
            raise BadLayer(f"the entry {member.name!r} has a negative size")
        self._spend(member.size)
        content = archive.extractfile(member)
        assert content is not None
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(target, "wb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
            if file.tell() != member.size:
                raise BadLayer(f"the entry {member.name!r} ends early")

    def _link_target(self, member: tarfile.TarInfo) -> str:
        parts = _parts(member.linkname)
        if not parts:
            raise BadLayer(f"the hard link {member.name!r} names no file")
        return os.path.join(_real("/" + "/".join(parts[:-1])), parts[-1])

    def _metadata(self, member: tarfile.TarInfo, path: str) -> None:
        if not (0 <= member.uid < _NO_ID and 0 <= member.gid < _NO_ID):
            raise BadLayer(f"the entry {member.name!r} has an impossible owner")
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
        time_ns = int(member.mtime * 1e9) if 0 <= member.mtime < _LATEST else 0
        if member.issym():
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
            return
        os.chmod(path, member.mode & 0o7777)
        os.utime(path, ns=(time_ns, time_ns))
        if member.isdir():
            self._folder_times[path] = time_ns

    def _folder(self, parts: list[str]) -> str:
        """The real path of an entry's folder, with the image's symlinks resolved. It is made if it is missing."""
        wanted = "/" + "/".join(parts)
        if not os.path.isdir(wanted):
            path = "/"
            for part in parts:
                path = os.path.join(path, part)
                if os.path.islink(path):
                    os.makedirs(_real(path), 0o755, exist_ok=True)
                elif not os.path.isdir(path):
                    _remove(path)
                    os.mkdir(path, 0o755)
                self._remember(_real(path))
        return _real(wanted)

    def _remember(self, path: str) -> None:
        while path not in self._made:
            self._made.add(path)
            path = os.path.dirname(path)

    def _empty_lower(self, folder: str) -> None:
        """Remove what lower layers put into ``folder``. What this layer has made stays."""
        with os.scandir(folder) as found:
            children = list(found)
        for child in children:
            if child.path not in self._made:
                _remove(child.path)
            elif child.is_dir(follow_symlinks=False):
                self._empty_lower(child.path)

    def _spend(self, size: int) -> None:
        self.used += size
        if self.used > self._limit:
            raise LayerTooBig(f"needs more than {self._limit} bytes")


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadLayer(f"the entry {name!r} leaves the image")
    return parts


def _real(path: str) -> str:
    return os.path.realpath(path)


def _is_real_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _remove(path: str) -> None:
    if _is_real_folder(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def apply(layer: IO[bytes], limit: int) -> int:
    """Apply ``layer`` to ``/``. Returns the bytes used.

    Raises:
        BadLayer: it is damaged or hostile; the message says how.
        LayerTooBig: it needs more than ``limit`` bytes.
    """
    state = _Layer(limit)
    try:
        with tarfile.open(fileobj=layer, mode="r|", tarinfo=_StrictHeader) as archive:
            state.apply(archive)
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise BadLayer(str(error) or type(error).__name__) from error
    return state.used


def main() -> int:
    root, limit = sys.argv[1:]
    confined.enter(root)
    try:
        print(apply(sys.stdin.buffer, int(limit)))
    except BadLayer as error:
        print(error, file=sys.stderr)
        return TOO_BIG if isinstance(error, LayerTooBig) else DAMAGED
    return 0


if __name__ == "__main__":
    sys.exit(main())
