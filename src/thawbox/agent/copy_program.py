"""A COPY step inside the sandbox: puts the members of a tar stream where Docker's COPY would.

A program of its own. ``copy`` starts it with the options, a JSON object, as its argument and the stream as its standard
input. It prints one line of JSON: ``{"files", "bytes"}``, or ``{"code", "message"}`` after an error.
"""

import json
import os
import sys
import tarfile
from typing import IO

from .copy_placer import CopyFailed, Placer
from .users import UnknownUser, owner_ids


def place(
    stream: IO[bytes], dest: str, cwd: str, owner: tuple[int, int] | None, permissions: int | None
) -> Placer:
    """Place every member of ``stream``, an uncompressed tar archive.

    Raises:
        CopyFailed: with a sentence for the user.
        OSError: no space, and the like.
    """
    placer = Placer(dest, cwd, owner, permissions)
    try:
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                placer.add(member, archive.extractfile(member) if member.isreg() else None)
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        placer.finish()
    except tarfile.TarError as error:
        raise CopyFailed(f"the upload is not a whole tar archive: {error}") from None
    finally:
        placer.abandon()
    return placer


def permission_bits(text: str | None) -> int | None:
    """``permissions`` as a number.

    Raises:
        CopyFailed: not an octal number of at most four digits.
    """
    if text is None:
        return None
    if not 1 <= len(text) <= 5 or any(digit not in "01234567" for digit in text) or int(text, 8) > 0o7777:
        raise CopyFailed(f"permissions {text!r} is not an octal number such as 0755")
    return int(text, 8)


def copy(options: dict[str, str | None]) -> dict[str, object]:
    """Copy standard input as ``options`` say; returns the object to print."""
    try:
        owner: tuple[int, int] | None = owner_ids(options.get("owner") or "0:0", options.get("root") or "")
        if not options.get("owner") and os.geteuid() != 0:
            owner = None  # in tests that do not run as root: only root can change owners
        placer = place(
            sys.stdin.buffer,
            options.get("dest") or ".",
            options.get("cwd") or "/",
            owner,
            permission_bits(options.get("permissions")),
        )
    except CopyFailed as error:
        return {"code": "COPY_FAILED", "message": str(error)}
    except UnknownUser as error:
        return {"code": "UNKNOWN_USER", "message": str(error)}
    except OSError as error:
        import errno

        code = errno.errorcode.get(error.errno or 0, "EIO")
        return {
            "code": code,
            "message": f"copying to {error.filename or 'the destination'} failed: {error.strerror}",
        }
    return {"files": placer.files, "bytes": placer.bytes}


def main(arguments: list[str]) -> None:
    """``arguments`` is one JSON object: the options of ``copy``. Prints the result as a line of JSON."""
    print(json.dumps(copy(json.loads(arguments[0]))))
