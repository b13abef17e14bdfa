"""What the doctor says about one need of the node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result."""

    name: str
    ok: bool | None
    """True: fine. None: works, but could be better or may fail for some. False: Thawbox does not work."""
    detail: str
    """What was found."""
    why: str = ""
    """Why it matters."""
    fix: str = ""
    """The command that mends it; empty when it is fine or no command can."""


def existing_parent(path: Path) -> Path:
    """``path``, or the nearest folder above it that exists."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())
