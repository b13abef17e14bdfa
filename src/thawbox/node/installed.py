"""Finds what set-up has installed on this machine: runsc and the agent's image."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from thawbox.agent_image import build_agent_image
from thawbox.errors import RuntimeFault
from thawbox.settings import Settings
from thawbox.state import Layout

from . import gvisor

DEFAULT_STATE = Path("/var/lib/thawbox")
HASH_FILE_SUFFIX = ".sha256"


def installed_runsc(settings: Settings) -> Path:
    """The runsc to use: the configured one, the state folder's, the default state folder's, or the one on ``PATH``.

    Raises:
        RuntimeFault: none of them exists.
    """
    candidates = [
        settings.runsc,
        Layout(settings.state).runtime / "runsc",
        DEFAULT_STATE / "runtime" / "runsc",
    ]
    if on_path := shutil.which("runsc"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate is not None and candidate.exists():
            return candidate.resolve()
    raise RuntimeFault("runsc is not installed: run sudo thaw setup, or set THAWBOX_RUNSC to its path")


def agent_image(settings: Settings) -> Path:
    """The configured agent image, or the state folder's, which is made from this machine's Python if it is missing."""
    if settings.agent_image is not None:
        return settings.agent_image
    return build_agent_image(Layout(settings.state).runtime).path


def open_runsc(settings: Settings) -> gvisor.Runsc:
    """The installed runsc, with its records and writable layers in this state folder.

    Raises:
        RuntimeFault: runsc is not installed.
    """
    layout = Layout(settings.state)
    binary = installed_runsc(settings)
    return gvisor.Runsc(binary=binary, root=layout.containers, upper=layout.upper, digest=digest_of(binary))


def digest_of(binary: Path) -> str:
    """SHA-256 of the file, in hexadecimal.

    It is stored beside the file and used while the file's size and time stay the same: hashing 80 MB takes 50 ms.
    """
    stat = binary.stat()
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    memo = binary.with_name(binary.name + HASH_FILE_SUFFIX)
    try:
        known, _, digest = memo.read_text().partition(":")
        if known == stamp:
            return digest.strip()
    except OSError:
        pass
    digest = file_digest(binary, "sha256")
    with contextlib.suppress(OSError):  # the folder is read-only: hash again next time
        memo.write_text(f"{stamp}:{digest}\n")
    return digest


def file_digest(path: Path, algorithm: str) -> str:
    """The digest of the file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
