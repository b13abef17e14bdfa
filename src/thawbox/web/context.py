"""The id of the current request, and readers of its headers."""

from __future__ import annotations

import re
from contextvars import ContextVar

from starlette.types import Scope

from thawbox import ids

_HARMLESS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)
_current: ContextVar[str] = ContextVar("thawbox_request_id", default="req_none")


def request_id() -> str:
    """The id of the current request; outside of requests ``req_none``."""
    return _current.get()


def begin(scope: Scope) -> str:
    """Set the request's id: the client's ``X-Request-ID`` if it is 8 to 64 harmless characters, else a new one."""
    offered = header(scope, b"x-request-id")
    chosen = offered if offered is not None and _HARMLESS_ID.fullmatch(offered) else ids.request_id()
    _current.set(chosen)
    return chosen


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this (lower case) name."""
    for key, item in scope["headers"]:
        if key == name:
            text: str = item.decode("latin-1")
            return text.strip()
    return None


def bearer(scope: Scope) -> str | None:
    """The token of ``Authorization: Bearer``; None without such a header."""
    value = header(scope, b"authorization")
    if value is None:
        return None
    scheme, _, credentials = value.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None
