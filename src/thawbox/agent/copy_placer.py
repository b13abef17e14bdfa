"""Where the members of a COPY step go: as Docker's COPY would put them. Used by ``copy_program``.

Where Docker's documentation says nothing, the rules are those of BuildKit (its copier in the Go module fsutil):

* ``dest`` itself may be a link and is then followed. Below it, no link is ever followed: a file replaces a link or a
  file, and a folder over a link, or over a file, is an error.
* A folder that ``dest`` already is keeps its mode, owner and time. A folder below it that was there already takes
  those of the copied folder.
* A folder that is made for ``dest`` has mode 0755; those above it too, and they belong to root.
* ``owner`` and ``permissions`` hold for everything copied, files and folders; links have no permissions.
"""

import os
import stat
import tarfile
from typing import IO

Parts = tuple[str, ...]
BLOCK = 256 * 1024


class CopyFailed(Exception):
    """The copy cannot be done; the message is a sentence for the user."""


class Placer:
    """Places members one by one as they come; ``finish`` when all have come.

    The stream is read once and never stored. So it is not known at first whether a file is the only member: it waits
    under a temporary name beside ``dest`` until the next top-level member, or the end of the stream.
    """

    def __init__(self, dest: str, cwd: str, owner: tuple[int, int] | None, permissions: int | None) -> None:
        self.owner = owner
        self.permissions = permissions
        self.base = os.path.realpath(os.path.join(cwd, dest))
        self.into_folder = (
            dest.endswith(("/", "/.", "/..")) or dest in (".", "..") or os.path.isdir(self.base)
        )
        self.files = 0
        self.bytes = 0
        self._top_files: set[Parts] = set()
        self._top_folders: set[Parts] = set()
        self._waiting: tuple[Parts, str] | None = None
        self._ready: set[str] = set()
        """Paths that are known to be folders and not links."""
        self._folders: dict[str, tarfile.TarInfo] = {}
        """Copied folders; their modes and times are set last, because filling them changes the times."""

    def add(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        """Place one member. Parents come before what is in them, as every archiver writes them."""
        parts = member_parts(member.name)
        if not (member.isreg() or member.isdir() or member.issym()):
            raise CopyFailed(
                f"{member.name!r} is a device, a pipe or a hard link; "
                "only files, folders and links can be copied"
            )
        top = self._top_of(parts)
        if top is not None:
            self._add_below(parts[len(top) :], member, content)
        elif member.isdir():
            self._settle()
            self._top_folders.add(parts)
            self._make_base()
        else:
            self._add_top_file(parts, member, content)

    def finish(self) -> None:
        """After the last member: rename a lone file, and set modes and times of folders."""
        if self._waiting is not None:
            _, temporary = self._waiting
            if os.path.isdir(self.base):
                raise CopyFailed(f"{self.base!r} is a folder and cannot be replaced by a file")
            os.rename(temporary, self.base)
            self._waiting = None
        for path, member in reversed(self._folders.items()):
            self._dress(path, member)

    def abandon(self) -> None:
        """After an error: remove the file that waits."""
        if self._waiting is not None:
            if os.path.lexists(self._waiting[1]):
                os.unlink(self._waiting[1])
            self._waiting = None

    def _top_of(self, parts: Parts) -> Parts | None:
        for length in range(len(parts) + 1):
            if parts[:length] in self._top_folders:
                return parts[:length]
        return None

    def _add_below(self, below: Parts, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        if not below:
            if not member.isdir():
                raise CopyFailed(f"{member.name!r} is both a folder and a file")
            return
        folder = self.base
        for part in below[:-1]:
            folder = os.path.join(folder, part)
            self._make_folder(folder, None)
        path = os.path.join(folder, below[-1])
        if member.isdir():
            self._make_folder(path, member)
        else:
            self._put(path, member, content)

    def _add_top_file(self, parts: Parts, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        if not parts:
            raise CopyFailed(f"{member.name!r} is not a name for a file")
        self._top_files.add(parts)
        if (
            self._waiting is not None and self._waiting[0] == parts
        ):  # a second one of this name: the later counts
            self.abandon()
        elif self._waiting is not None:
            self._settle()
        if self.into_folder or self._top_folders or len(self._top_files) > 1:
            self._make_base()
            self._put(os.path.join(self.base, parts[-1]), member, content)
            return
        make_parents(self.base)
        temporary = os.path.join(os.path.dirname(self.base), f".thawbox-copy-{os.getpid()}")
        self._waiting = (parts, temporary)
        self._put(temporary, member, content)

    def _settle(self) -> None:
        """There is more than one top-level member: move the file that waits into ``dest``, a folder."""
        if self._waiting is not None:
            parts, temporary = self._waiting
            self._make_base()
            target = os.path.join(self.base, parts[-1])
            self._clear(target)
            os.rename(temporary, target)
            self._waiting = None

    def _make_base(self) -> None:
        if self.base in self._ready:
            return
        if not os.path.isdir(self.base):
            if os.path.lexists(self.base):
                raise CopyFailed(
                    f"{self.base!r} is a file, but what is copied needs a folder there; "
                    "name another destination"
                )
            make_parents(self.base)
            os.mkdir(self.base)
            os.chmod(self.base, 0o755 if self.permissions is None else self.permissions)
            self._own(self.base)
        self._ready.add(self.base)

    def _make_folder(self, path: str, member: tarfile.TarInfo | None) -> None:
        """Make sure of a folder below ``dest``; ``member`` is None if the archive has only what is in it."""
        if path not in self._ready:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise CopyFailed(
                        f"{path!r} is a file or a link and cannot be replaced by a folder; "
                        "remove it in an earlier step"
                    ) from None
            else:
                os.chmod(path, 0o755 if self.permissions is None else self.permissions)
                self._own(path)
            self._ready.add(path)
        if member is not None:
            self._folders[path] = member

    def _put(self, path: str, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        self._clear(path)
        if member.issym():
            os.symlink(member.linkname, path)
        else:
            self.bytes += write_new(path, content, member.size)
        self.files += 1
        self._dress(path, member)

    def _clear(self, path: str) -> None:
        try:
            state = os.lstat(path)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise CopyFailed(
                f"{os.path.dirname(path)!r} is a file, so nothing can be copied into it"
            ) from None
        if stat.S_ISDIR(state.st_mode):
            raise CopyFailed(f"{path!r} is a folder and cannot be replaced by a file")
        os.unlink(path)

    def _dress(self, path: str, member: tarfile.TarInfo) -> None:
        """Owner, then mode (chown clears the setuid bits), then time."""
        self._own(path)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777 if self.permissions is None else self.permissions)
        when = max(0, int(member.mtime * 1_000_000_000))
        os.utime(path, ns=(when, when), follow_symlinks=False)

    def _own(self, path: str) -> None:
        if self.owner is not None:
            os.chown(path, *self.owner, follow_symlinks=False)


def member_parts(name: str) -> Parts:
    """The components of a member's name, without the ``./`` and ``../`` that it begins with.

    Raises:
        CopyFailed: an absolute name, or one with ``..`` further in.
    """
    if name.startswith("/"):
        raise CopyFailed(f"{name!r} in the upload is an absolute name; names must be relative")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        del parts[0]
    if ".." in parts:
        raise CopyFailed(f"{name!r} in the upload leads out of its folder")
    return tuple(parts)


def make_parents(path: str) -> None:
    """The folders above ``path``: root's, mode 0755."""
    folder = os.path.dirname(path)
    if os.path.isdir(folder):
        return
    if os.path.lexists(folder):
        raise CopyFailed(f"{folder!r} is a file, so nothing can be copied into it")
    make_parents(folder)
    os.mkdir(folder)
    os.chmod(folder, 0o755)  # noqa: S103


def write_new(path: str, content: IO[bytes] | None, size: int) -> int:
    """Write a new file; returns its size in bytes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    written = 0
    with open(fd, "wb", buffering=0) as file:
        while content is not None and (block := content.read(BLOCK)):
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
            written += len(block)
    if written != size:
        raise CopyFailed("the upload ends in the middle of a file")
    return written
