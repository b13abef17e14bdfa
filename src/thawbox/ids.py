"""Identifiers: how they look, and new ones."""

import re
import secrets
import string
import time

_ALNUM = string.ascii_letters + string.digits
_LOWER = string.ascii_lowercase + string.digits

TEMPLATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""The names that templates can have. A name must not be all digits as well: template ids are."""

RESERVED_TEMPLATE_NAMES = frozenset({"build", "files", "stream"})
"""Names that would collide with paths below /v1/templates."""


def request_id() -> str:
    """A new request id: ``req_`` and 24 hex digits, like those in the vendor's examples."""
    return "req_" + secrets.token_hex(12)


def sandbox_id() -> str:
    """A new sandbox id: milliseconds since 1970 (13 digits), then 8 random characters out of a-z, 0-9.

    All ids have the same length (21), because runsc resolves container ids by prefix.
    """
    return f"{time.time_ns() // 1_000_000:013d}" + "".join(secrets.choice(_LOWER) for _ in range(8))


def alnum(length: int) -> str:
    """``length`` random characters out of A-Z, a-z, 0-9."""
    return "".join(secrets.choice(_ALNUM) for _ in range(length))
