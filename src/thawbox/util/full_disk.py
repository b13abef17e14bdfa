"""Telling a full disk of this machine from other trouble, whoever met it: we, SQLite, or a program that we ran."""

from __future__ import annotations

import errno
import os

_WORDS = (os.strerror(errno.ENOSPC).lower(), os.strerror(errno.EDQUOT).lower(), "database or disk is full")


def is_meant(trouble: BaseException | str) -> bool:
    """Whether this error, or what a program of the host printed, says that there is no room."""
    if isinstance(trouble, OSError) and trouble.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(word in str(trouble).lower() for word in _WORDS)
