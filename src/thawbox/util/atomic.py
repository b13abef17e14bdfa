"""Files and folders that appear whole or not at all: made under another name, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path, *, within: Path | None = None) -> Iterator[Path]:
    """Yield the path at which the block makes a new file or folder; rename it to ``target`` when the block ends.

    An existing file is replaced; an existing folder is not, unless it is empty. If the block raises, what it made is
    removed and ``target`` stays as it was. If it made nothing, that is an error.

    The unfinished file is called ``.new-``, a random part, and the suffix of ``target``.

    ``within``: the folder for the unfinished file, on the same file system; None: the folder of ``target``. After a
    crash the unfinished file is left there. Large files belong into a folder that is cleaned at the start.

    Raises:
        OSError: it cannot be renamed. What the block raises passes through.
    """
    unfinished = (within or target.parent) / f".new-{secrets.token_hex(8)}{target.suffix}"
    try:
        yield unfinished
        unfinished.rename(target)
    except BaseException:
        discard(unfinished)
        raise


def write_text(target: Path, text: str, *, mode: int = 0o666, durable: bool = False) -> None:
    """Write a text file. Readers see the old content or the new one, never a part.

    ``mode``: permissions of the file, less the process' umask. ``durable``: the content is on the disk before the file
    is renamed, so that a power cut cannot leave an empty file.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(target) as unfinished:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file, or a folder with all files in it (not in its folders), is on the disk.

    Raises:
        OSError: it cannot be read or written.
    """
    for one in (*path.iterdir(), path) if path.is_dir() else (path,):
        descriptor = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a file or a folder; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
