"""Whiteouts that hide nothing.

A file that a step made and removed again leaves a whiteout. Where the folder around it exists in no lower layer,
overlayfs does not look for whiteouts, lists them as entries that cannot be opened, and mkfs.erofs stumbles.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OPAQUE = "trusted.overlay.opaque"


def remove_pointless(layer: Path, below: Path) -> int:
    """Remove the whiteouts in ``layer`` that hide nothing of the tree ``below``. Returns how many.

    Both trees may be hostile: no symlink is followed.
    """
    return _in_folder(str(layer), str(below))


def _in_folder(layer: str, below: str | None) -> int:
    removed = 0
    with os.scandir(layer) as entries:
        for entry in entries:
            hidden = None if below is None else os.path.join(below, entry.name)
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                merged = hidden is not None and _is_folder(hidden) and not _is_opaque(entry.path)
                removed += _in_folder(entry.path, hidden if merged else None)
                continue
            is_whiteout = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
            if is_whiteout and (hidden is None or not os.path.lexists(hidden)):
                os.unlink(entry.path)
                removed += 1
    return removed


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
