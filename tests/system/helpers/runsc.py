"""A runsc that differs from the installed one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from thawbox.node.installed import installed_runsc
from thawbox.settings import load


def other_runsc(folder: Path) -> tuple[Path, str]:
    """A runsc that works as the installed one does but is another build, and its sha256."""
    copy = folder / "runsc"
    shutil.copy(installed_runsc(load()), copy)
    with copy.open("ab") as file:
        file.write(b"\0")
    return copy, hashlib.sha256(copy.read_bytes()).hexdigest()
