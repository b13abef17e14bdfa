"""Names inside archives: what a member may be called, and where a symlink may point."""

from __future__ import annotations

from thawbox.errors import UserError

from .fields import shown

MAX_NAME_BYTES = 4095
MAX_PART_BYTES = 255
MAX_DEPTH = 128


def relative_name(name: str, said: str) -> tuple[str, int]:
    """``name`` without ``.`` and leading ``..``, and how many of the latter there were.

    Raises:
        UserError: absolute, ``..`` in the middle, too long, or not clean UTF-8; ``said`` begins the sentence.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise UserError(f"{said} has a name that is not UTF-8; rename it") from None
    if "\0" in name:
        raise UserError(f"{said} has a NUL byte in its name; rename it")
    if size > MAX_NAME_BYTES:
        raise UserError(f"{said} has a name of {size} bytes, more than {MAX_NAME_BYTES}; shorten it")
    if not name or name.startswith("/"):
        raise UserError(f"{said} has an absolute or empty name; pack with relative names (tar -C DIR .)")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    parts = parts[climbs:]
    if ".." in parts:
        raise UserError(f"{said} has '..' in the middle of its name; pack it under its real name")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise UserError(f"{said} has a part of more than {MAX_PART_BYTES} bytes in its name; shorten it")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{said} lies {len(parts)} folders deep, more than {MAX_DEPTH}; flatten it")
    return "/".join(parts) or ".", climbs


def symlink_target(name: str, target: str, said: str) -> str:
    """``target`` of the symlink ``name`` (clean), if it stays inside the archive.

    ``..`` may only lead: behind a name, which can be a symlink too, it could climb out.

    Raises:
        UserError: it leaves the archive or is no clean path; ``said`` begins the sentence.
    """
    said = f"{said} is a symlink to {shown(target)}, which"
    remedy = "make it relative, or leave it out (.dockerignore)"
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        raise UserError(f"{said} is not UTF-8; {remedy}") from None
    if not target or "\0" in target or size > MAX_NAME_BYTES:
        raise UserError(f"{said} is empty, has a NUL byte or is too long; {remedy}")
    if target.startswith("/"):
        raise UserError(f"{said} is absolute; {remedy}")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[climbs:]:
        raise UserError(f"{said} has '..' in the middle; {remedy}")
    if name == "." or climbs > name.count("/"):
        raise UserError(f"{said} leaves the archive; {remedy}")
    return target
