"""Writing what came out of a sandbox to this machine's disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from thawbox.templates.tarwalk import Kind, members
from thawbox.util import atomic

_FOLDER_MODE = 0o755


def place_archive(archive: Path, folder: Path) -> None:
    """Unpack the tar.gz ``archive`` into ``folder``, which is made if need be; what is there is replaced.

    Raises:
        UserError: the archive holds what could do harm (see ``tarwalk``); what came before it is there.
        OSError: it cannot be written.
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
    for path, mode in reversed(modes.items()):  # last, because nothing can be written below a read-only one
        path.chmod(_allowed(mode))


def place_file(path: Path, mode: int, content: Iterable[bytes]) -> None:
    """Write a file; it is there whole or not at all.

    Raises:
        OSError: it cannot be written. What ``content`` raises passes through.
    """
    with atomic.replacing(path) as unfinished:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as written:
            written.writelines(content)
            os.fchmod(written.fileno(), _allowed(mode))


def _make_folders(top: Path, name: Path) -> None:
    """``name`` below ``top``. A link on the way gives way to a folder: it may lead anywhere."""
    path = top
    for part in name.parts:
        path /= part
        if path.is_symlink():
            path.unlink()
        path.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def _allowed(mode: int) -> int:
    """Permissions as this user makes files; never setuid, setgid or sticky."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & 0o777 & ~mask
