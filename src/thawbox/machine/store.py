"""What all state folders of this machine share: runsc as built here, verdicts of its self-test, and Go.

The folder (setting ``shared_runtime``) belongs to root. Anything in it that another user could have written is
treated as missing. Files get their names by a rename, so two set-ups at once, or one that is killed, leave no half of
one behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thawbox.errors import RuntimeFault
from thawbox.settings import Settings
from thawbox.util import atomic

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_BUILT = "runsc-"
_HALF_MADE = "making-"


@dataclass(frozen=True, slots=True)
class Store:
    """The machine-wide folder."""

    folder: Path

    @property
    def go(self) -> Path:
        """The virtual environment with Go, on machines without one of their own."""
        return self.folder / "go"

    def make(self) -> None:
        """Create the folder, private to root.

        Raises:
            RuntimeFault: it cannot be made, or others could write in it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise RuntimeFault(
                f"{self.folder} cannot be made ({error.strerror}): name another folder in THAWBOX_SHARED_RUNTIME"
            ) from error
        if not is_private(self.folder):
            raise RuntimeFault(
                f"{self.folder} or a folder above it can be written by others than root: change its owner or mode, "
                "or name another folder in THAWBOX_SHARED_RUNTIME"
            )

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of set-ups and remove what a killed one left; ``waiting`` is called once if another has it."""
        with (self.folder / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            for left in self.folder.glob(f"{_HALF_MADE}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A new folder for half-made things, on the store's file system; removed at the end. Needs the lock."""
        folder = self.folder / f"{_HALF_MADE}{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def find_runsc(self, sources: str) -> Path | None:
        """The runsc built from ``sources`` (see ``runsc_build.sources``); None if there is none to trust."""
        path = self._runsc(sources)
        return path if is_private(path) and os.access(path, os.X_OK) else None

    def keep_runsc(self, sources: str, program: Path) -> Path:
        """Move ``program``, or link it if it stays in use elsewhere, into the store; returns where it is now.

        Others that no state folder has a link to are removed: each takes 80 MB. Needs the lock.
        """
        final = self._runsc(sources)
        link_or_copy(program, final)
        for other in self.folder.glob(f"{_BUILT}*"):
            if other != final and other.stat().st_nlink == 1:
                other.unlink()
        return final

    def _runsc(self, sources: str) -> Path:
        return self.folder / f"{_BUILT}{_short(sources)}"

    def has_verdict(self, subject: Mapping[str, str]) -> bool:
        """Whether ``subject`` (what was tested, and on what) has passed on this machine."""
        path = self._verdict(subject)
        try:
            if not is_private(path.parent):
                return False
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor) as file:
                return _is_safe(os.fstat(descriptor)) and bool(json.load(file) == dict(subject))
        except (OSError, ValueError):
            return False

    def keep_verdict(self, subject: Mapping[str, str]) -> None:
        """Note that ``subject`` has passed.

        Raises:
            OSError: it cannot be written.
        """
        path = self._verdict(subject)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write_text(path, json.dumps(dict(subject)), mode=0o600, durable=True)

    def _verdict(self, subject: Mapping[str, str]) -> Path:
        return self.folder / "verdicts" / f"{_short(json.dumps(dict(subject), sort_keys=True))}.json"


def open_store(settings: Settings) -> Store:
    """The store that the settings name; nothing is made yet."""
    return Store(settings.shared_runtime.resolve())


def is_private(path: Path) -> bool:
    """Whether nobody but root could have written or replaced ``path``: it is there, is no symbolic link, and it and
    every folder above belong to root and cannot be written by others.

    A folder above that others may write in is fine if it is sticky, as /tmp is: there only owners replace their
    entries. Users other than root trust their own files too.
    """
    try:
        if not _is_safe(path.lstat()):
            return False
        above = path.parent.resolve()
        return all(_is_safe(folder.lstat(), sticky=True) for folder in (above, *above.parents))
    except OSError:
        return False


def _is_safe(status: os.stat_result, *, sticky: bool = False) -> bool:
    if stat.S_ISLNK(status.st_mode) or status.st_uid not in (0, os.geteuid()):
        return False
    return not status.st_mode & _OTHERS_MAY_WRITE or (sticky and bool(status.st_mode & stat.S_ISVTX))


def link_or_copy(source: Path, target: Path) -> None:
    """Give ``source`` the second name ``target``, or copy it there if that is another file system; replaces a file of
    that name in one step."""
    with atomic.replacing(target) as unfinished:
        try:
            os.link(source, unfinished)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            shutil.copy2(source, unfinished)
            atomic.sync(unfinished)
    atomic.discard(unfinished)  # rename(2) keeps both names of one file


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
