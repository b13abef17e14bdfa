"""Recognises errors that come from a full disk of this machine, in Thawbox itself, SQLite or programs that it runs."""

from __future__ import annotations

import errno
import os

_PHRASES = (os.strerror(errno.ENOSPC).lower(), os.strerror(errno.EDQUOT).lower(), "database or disk is full")


def is_full_disk(error: BaseException | str) -> bool:
    """Whether ``error``, an exception or the output of a program of the host, reports a full disk or quota."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(phrase in str(error).lower() for phrase in _PHRASES)
