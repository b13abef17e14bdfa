"""Fields of an agent's answers, checked: a sandbox may be hostile."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from thawbox.errors import GuestFault

Object = dict[str, Any]
"""A JSON object."""
T = TypeVar("T", int, float, str, bool)


def field(value: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """The field ``name`` of an answer, checked. A whole number is accepted as a float.

    Raises:
        GuestFault: it is missing, of another type, not finite, or beyond 64 bits.
    """
    found: Any = value.get(name)
    if kind is float and isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**63:
        found = float(found)
    wrong_bool = isinstance(found, bool) and kind is not bool
    if not isinstance(found, kind) or wrong_bool or (isinstance(found, float) and not math.isfinite(found)):
        raise GuestFault(f"the agent's answer has no valid {name!r}")
    if isinstance(found, int) and abs(found) >= 2**63:
        raise GuestFault(f"the agent's answer has a {name!r} that is too large")
    return found


def text_field(value: Mapping[str, Any], name: str) -> str:
    """As ``field``, for text that is sent on as UTF-8. File names, which may be any bytes, are read with ``field``.

    Raises:
        GuestFault: as ``field``, or it is not valid Unicode.
    """
    found = field(value, name, str)
    if not is_unicode(found):
        raise GuestFault(f"the agent's answer has a {name!r} that is not valid Unicode")
    return found


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be encoded as UTF-8. JSON can contain half a surrogate pair, which cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
