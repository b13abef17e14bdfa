"""Checks for single values of a build request: text, numbers, paths, names.

Every check takes the value and ``what``, the words that name it in the error ("Step 2 (run): command"). It returns the
clean value, or raises ``InvalidTemplate`` with one sentence. No JSON value makes it raise anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from thawbox import ids
from thawbox.errors import InvalidTemplate

T = TypeVar("T")

MAX_COMMAND_BYTES = 128 * 1024 - 1
"""The longest command line or environment value. Linux's execve(2) takes 128 KiB per string, closing NUL included."""
MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255
"""The longest component of a path (NAME_MAX of Linux)."""
MAX_ID = 2**32 - 2
"""The largest user or group id. The next one, 2**32 - 1, means "no change" to the kernel (chown(2))."""

_MAX_QUOTED = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10}")
_OCTAL = re.compile(r"(?:0o)?[0-7]{3,5}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_HASH = re.compile(r"[0-9a-fA-F]{64}")

# Debian policy 5.6.1 and 5.6.12. A trailing "-" would tell apt to remove; "*" in a version is apt's wildcard.
_APT = re.compile(
    r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9][a-z0-9-]*)?"
    r"(?:=[0-9][A-Za-z0-9.+:~*-]*|/[A-Za-z0-9][A-Za-z0-9._+-]*)?"
)

# The grammar of image references: [host[:port]/]path[:tag][@digest].
_HOST = (
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,128})?"
)
MAX_IMAGE_BYTES = 512


def quoted(value: object) -> str:
    """``value`` for an error message: one short line that can always be encoded as UTF-8."""
    if isinstance(value, str):
        cut = value if len(value) <= _MAX_QUOTED else value[:_MAX_QUOTED] + "…"
        return json.dumps(cut, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a huge number"
    if isinstance(value, float):
        return repr(value)
    return "a list" if isinstance(value, list) else "an object"


def present(mapping: Mapping[str, object], *names: str) -> tuple[str, object] | None:
    """The first of ``names`` that ``mapping`` has and that is not null, with its value; None without one."""
    for name in names:
        value = mapping.get(name)
        if value is not None:
            return name, value
    return None


def agreed(
    mapping: Mapping[str, object],
    names: tuple[str, ...],
    check: Callable[[object, str], T],
    *,
    where: str = "",
) -> T | None:
    """The checked value of a field that has several spellings, ``names``; None if the field is absent.

    Raises:
        InvalidTemplate: two spellings have different values, or ``check`` refuses the value.
    """
    found = [(name, check(mapping[name], where + name)) for name in names if mapping.get(name) is not None]
    if not found:
        return None
    first, value = found[0]
    for name, other in found[1:]:
        if other != value:
            raise InvalidTemplate(f"{where}{first} and {name} differ; send only one of them")
    return value


def text(value: object, what: str, *, max_bytes: int = MAX_COMMAND_BYTES) -> str:
    """Text without NUL that can be encoded as UTF-8 in at most ``max_bytes``; it may be empty."""
    if not isinstance(value, str):
        raise InvalidTemplate(f"{what} must be text, not {quoted(value)}; put it in quotes")
    if "\0" in value:
        raise InvalidTemplate(f"{what} contains a NUL byte: {quoted(value)}; remove it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidTemplate(
            f"{what} is not valid UTF-8: {quoted(value)}; remove the lone surrogate"
        ) from None
    if size > max_bytes:
        raise InvalidTemplate(
            f"{what} is {size} bytes long, {quoted(value)}; at most {max_bytes} are allowed"
        )
    return value


def filled(value: object, what: str, *, max_bytes: int = MAX_COMMAND_BYTES) -> str:
    """Like ``text``, but with at least one character that is not white space."""
    clean = text(value, what, max_bytes=max_bytes)
    if not clean.strip():
        raise InvalidTemplate(f"{what} is empty; give it a value or leave the step out")
    return clean


def path(value: object, what: str) -> str:
    """A path that a Linux file system accepts, absolute or relative."""
    clean = filled(value, what, max_bytes=MAX_PATH_BYTES)
    if _CONTROL.search(clean):
        raise InvalidTemplate(f"{what} contains a control character: {quoted(clean)}; remove it")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in clean.split("/")):
        raise InvalidTemplate(
            f"{what} has a part of more than {MAX_NAME_BYTES} bytes: {quoted(clean)}; shorten it"
        )
    return clean


def whole(value: object, what: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``. ``true``, ``1.0`` and ``"1"`` are refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTemplate(f"{what} must be a whole number, not {quoted(value)}; use {low} to {high}")
    if not low <= value <= high:
        raise InvalidTemplate(f"{what} is {quoted(value)}, out of range; use {low} to {high}")
    return value


def flag(value: object, what: str) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise InvalidTemplate(f"{what} must be true or false, not {quoted(value)}")
    return value


def texts(value: object, what: str, *, most: int = 1000) -> list[str]:
    """A list of at most ``most`` texts (``text``); it may be empty."""
    if not isinstance(value, list):
        raise InvalidTemplate(f"{what} must be a list of texts, not {quoted(value)}")
    if len(value) > most:
        raise InvalidTemplate(f"{what} has {len(value)} entries; at most {most} are allowed")
    return [text(item, f"{what}[{index}]") for index, item in enumerate(value)]


def template_name(value: object, what: str) -> str:
    """A template's name (``ids.TEMPLATE_NAME``)."""
    clean = text(value, what)
    if not ids.TEMPLATE_NAME.fullmatch(clean):
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not a template name; use 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    if clean.isdigit():
        raise InvalidTemplate(f"{what} {quoted(clean)} is all digits like a template id; add a letter")
    if clean in ids.RESERVED_TEMPLATE_NAMES:
        raise InvalidTemplate(f"{what} {quoted(clean)} is reserved; choose another name")
    return clean


def image(value: object, what: str) -> str:
    """An image reference: [host[:port]/]name[:tag][@digest]."""
    clean = text(value, what)
    if len(clean) > MAX_IMAGE_BYTES or not _IMAGE.fullmatch(clean):
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not an image reference; write it like python:3.11 or host/name:tag, "
            "in lower case"
        )
    return clean


def package(value: object, what: str) -> str:
    """A Debian package: name, name:arch, name=version or name/suite."""
    clean = text(value, what)
    if len(clean) > MAX_NAME_BYTES or not _APT.fullmatch(clean):
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not a Debian package name; write it like curl, curl=7.88.1-10, "
            "libc6:amd64 or curl/bookworm-backports"
        )
    return clean


def env_name(value: object, what: str) -> str:
    """The name of an environment variable."""
    clean = text(value, what)
    if not _ENV_NAME.fullmatch(clean):
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not a variable name; use letters, digits and '_', "
            "not beginning with a digit"
        )
    return clean


def module(value: object, what: str) -> str:
    """The dotted name of a Python module."""
    clean = text(value, what)
    if len(clean) > MAX_NAME_BYTES or not _MODULE.fullmatch(clean):
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not the name of a Python module; write it like numpy or matplotlib.pyplot"
        )
    return clean


def user(value: object, what: str) -> str:
    """``name``, ``uid``, ``name:group`` or ``uid:gid``."""
    clean = text(value, what)
    parts = clean.split(":")
    good = len(parts) <= 2 and all(
        _USER.fullmatch(p) and not (p.isdigit() and int(p) > MAX_ID) for p in parts
    )
    if not good:
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not a user; write it like app, 1000, app:staff or 1000:1000"
        )
    return clean


def permissions(value: object, what: str) -> int:
    """Permission bits, from a text of octal digits."""
    clean = text(value, what)
    if not _OCTAL.fullmatch(clean) or int(clean, 8) > 0o7777:
        raise InvalidTemplate(f'{what} {quoted(clean)} is not an octal mode; write it like "755" or "0644"')
    return int(clean, 8)


def files_hash(value: object, what: str) -> str:
    """The 64 hex digits that name an upload, in lower case."""
    clean = text(value, what)
    if not _HASH.fullmatch(clean):
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not 64 hex digits; send the files_hash of the upload link request"
        )
    return clean.lower()


def url(value: object, what: str) -> str:
    """An http or https address."""
    clean = text(value, what, max_bytes=2048)
    try:
        parts = urlsplit(clean)
        good = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        good = False
    if not good or _CONTROL.search(clean) or " " in clean:
        raise InvalidTemplate(
            f"{what} {quoted(clean)} is not an address; write it like http://localhost:8000/health"
        )
    return clean
