"""Writes files from a sandbox to this machine's disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from thawbox.templates.tarwalk import Kind, members
from thawbox.util import atomic

_FOLDER_MODE = 0o755


def place_archive(archive: Path, folder: Path) -> None:
    """Unpack the tar.gz ``archive`` into ``folder``, which is made if it does not exist. Existing files are replaced.

    Raises:
        UserError: a member could do harm (see ``tarwalk``). The members before it are unpacked.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modes: dict[Path, int] = {}
    for member, content in members(archive):
        path = folder / member.name
        if member.name != ".":
            _make_folders(folder, Path(member.name).parent)
        if member.kind is Kind.FOLDER:
            _make_folders(folder, Path(member.name))
            modes[path] = member.mode
        elif member.kind is Kind.SYMLINK:
            path.unlink(missing_ok=True)
            path.symlink_to(member.target)
        elif member.kind is Kind.HARD_LINK:
            path.unlink(missing_ok=True)
            path.hardlink_to(folder / member.target)
        else:
            place_file(path, member.mode, content)
    for path, mode in reversed(
        modes.items()
    ):  # at the end, because nothing can be written in a read-only folder
        path.chmod(_allowed(mode))


def place_file(path: Path, mode: int, content: Iterable[bytes]) -> None:
    """Write the file ``path`` with the permission bits ``mode``. It appears only when it is complete.

    Raises:
        OSError: it cannot be written. Errors that ``content`` raises are passed on.
    """
    with atomic.replacing(path) as unfinished:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as written:
            written.writelines(content)
            os.fchmod(written.fileno(), _allowed(mode))


def _make_folders(top: Path, name: Path) -> None:
    """Make the folder ``name`` below ``top``. A symlink on the way is replaced by a folder: it could lead anywhere."""
    path = top
    for part in name.parts:
        path /= part
        if path.is_symlink():
            path.unlink()
        path.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def _allowed(mode: int) -> int:
    """``mode`` without the bits of the user's umask, and without setuid, setgid and sticky."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & 0o777 & ~mask
