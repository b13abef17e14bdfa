"""Paths inside a sandbox: as requests give them, as answers show them, and what goes wrong with them.

A file name is bytes. What is no UTF-8 travels as ``surrogateescape`` makes it: ``%FF`` in a query is the byte FF;
in JSON it is ``"\\udcff"``, both ways.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse

from thawbox.errors import (
    DiskFull,
    FileExists,
    FileMissing,
    FolderMissing,
    Forbidden,
    GuestFault,
    InvalidPath,
    PathNotAllowed,
    SandboxUnavailable,
    ThawboxError,
    UserError,
)
from thawbox.gateway.context import context_of
from thawbox.gateway.target import Target, in_workspace
from thawbox.guest import GuestError
from thawbox.settings import Settings

PATH_MAX = 4096


class FileOperationFailed(UserError):
    """The sandbox's own file system refused. A 4xx, because trying again would not help."""

    code = "FILE_OPERATION_FAILED"
    title = "File operation failed"


class PathAnswer(JSONResponse):
    """JSON in ASCII: it can show every file name."""

    def render(self, content: Any) -> bytes:
        """``content`` as JSON."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


@contextlib.contextmanager
def refusals(target: Target, path: str, *, folder: bool = False) -> Iterator[None]:
    """What the agent refuses in this block becomes an error about ``path``.

    ``folder``: whether a path that is missing should have been a folder.

    Raises:
        ThawboxError: see ``refusal``.
        SandboxUnavailable: the agent is silent or talks nonsense.
    """
    try:
        yield
    except GuestError as error:
        raise refusal(error, path, folder=folder) from error
    except GuestFault as error:
        raise SandboxUnavailable(
            f"The agent of sandbox {target.sandbox.id} broke off: {error.message}"
        ) from error


def asked_path(request: Request, default: str | None = None) -> str:
    """The query's ``path``, absolute.

    Raises:
        InvalidPath, PathNotAllowed: see ``absolute``.
    """
    query = request.scope["query_string"].decode("utf-8", "surrogateescape")
    try:
        words = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape", max_num_fields=100))
    except ValueError:
        raise UserError("The query has too many fields.") from None
    return absolute(words.get("path", default or ""), context_of(request).settings)


def absolute(path: str, settings: Settings) -> str:
    """Relative paths count from the workspace.

    Raises:
        InvalidPath: no file can have this name.
        PathNotAllowed: it is in none of ``file_roots``.
    """
    try:
        length = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise InvalidPath("Field 'path' has half a surrogate pair that stands for no byte.") from None
    if not path or "\x00" in path or length > PATH_MAX:
        raise InvalidPath(f"Field 'path' must have 1 to {PATH_MAX} bytes and no NUL.")
    path = in_workspace(path)
    if settings.file_roots:
        return _allowed(path, settings.file_roots)
    return path


def _allowed(path: str, roots: tuple[str, ...]) -> str:
    # What is judged is what is used: without "..", which could lead elsewhere behind a link.
    plain = "/" + posixpath.normpath(path).lstrip("/")
    for root in roots:
        root = root.rstrip("/")
        if plain == (root or "/") or plain.startswith(root + "/"):
            return plain + "/" if path.endswith("/") and plain != "/" else plain
    raise PathNotAllowed(
        f"{shown(path)} is not in a folder that this server opens: {', '.join(roots)}.",
        details={"path": shown(path)},
    )


def shown(path: str) -> str:
    """A path for people: bytes that are no UTF-8 are U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def refusal(error: GuestError, path: str, *, folder: bool = False) -> ThawboxError:
    """What the agent refused, as an answer about ``path``; nothing of it is a 5xx, which clients repeat."""
    path = shown(path)
    said = error.message.encode("utf-8", "replace").decode("utf-8", "replace")
    details = {"path": path} if path else None
    match error.code:
        case "NOT_FOUND" if folder:
            return FolderMissing(f"There is no folder {path} in the sandbox.", details=details)
        case "NOT_FOUND":
            return FileMissing(f"There is no file {path} in the sandbox.", details=details)
        case "IS_DIRECTORY" | "NOT_REGULAR" | "ENOTDIR" | "ENAMETOOLONG" | "ELOOP" | "INVALID":
            return InvalidPath(f"{said}.", details=details)
        case "ALREADY_EXISTS":
            return FileExists(f"{path} exists already.", details=details)
        case "EACCES" | "EPERM" | "EROFS":
            return Forbidden(f"{said}.", details=details)
        case "ENOSPC" | "EDQUOT" | "EFBIG":
            return DiskFull(
                f"{path}: the sandbox's disk is full, or the server's that it lies on. Remove something, build the "
                "template with more diskGB, or ask the operator to make room.",
                details=details,
            )
        case _:
            return FileOperationFailed(f"{said} ({error.code}).", details=details)
