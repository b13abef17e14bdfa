"""Names in archives: which names members may have, and where symlinks may point."""

from __future__ import annotations

from thawbox.errors import UserError

from .fields import quoted

MAX_NAME_BYTES = 4095
MAX_PART_BYTES = 255
MAX_DEPTH = 128


def relative_name(name: str, subject: str) -> tuple[str, int]:
    """``name`` without ``.`` and leading ``..``, and the number of leading ``..``.

    Raises:
        UserError: the name is absolute, empty, too long, too deep or not UTF-8, or has ``..`` in the middle.
            ``subject`` begins the sentence.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise UserError(f"{subject} has a name that is not UTF-8; rename it") from None
    if "\0" in name:
        raise UserError(f"{subject} has a NUL byte in its name; rename it")
    if size > MAX_NAME_BYTES:
        raise UserError(f"{subject} has a name of {size} bytes, more than {MAX_NAME_BYTES}; shorten it")
    if not name or name.startswith("/"):
        raise UserError(f"{subject} has an absolute or empty name; pack with relative names (tar -C DIR .)")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    parts = parts[climbs:]
    if ".." in parts:
        raise UserError(f"{subject} has '..' in the middle of its name; pack it under its real name")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise UserError(f"{subject} has a part of more than {MAX_PART_BYTES} bytes in its name; shorten it")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{subject} lies {len(parts)} folders deep, more than {MAX_DEPTH}; flatten it")
    return "/".join(parts) or ".", climbs


def symlink_target(name: str, target: str, subject: str) -> str:
    """``target`` of the symlink ``name`` (a result of ``relative_name``), once it is known to stay inside the archive.

    ``..`` is allowed only at the beginning. After a name, which can be a symlink too, it could lead outside.

    Raises:
        UserError: the target leaves the archive, or is not a clean path; ``subject`` begins the sentence.
    """
    subject = f"{subject} is a symlink to {quoted(target)}, which"
    remedy = "make it relative, or leave it out (.dockerignore)"
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        raise UserError(f"{subject} is not UTF-8; {remedy}") from None
    if not target or "\0" in target or size > MAX_NAME_BYTES:
        raise UserError(f"{subject} is empty, has a NUL byte or is too long; {remedy}")
    if target.startswith("/"):
        raise UserError(f"{subject} is absolute; {remedy}")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[climbs:]:
        raise UserError(f"{subject} has '..' in the middle; {remedy}")
    if name == "." or climbs > name.count("/"):
        raise UserError(f"{subject} leaves the archive; {remedy}")
    return target
