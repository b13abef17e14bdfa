"""Paths inside a sandbox: parsed from requests, written to answers, and the errors about them.

A file name is bytes. A byte that is not UTF-8 is escaped as by Python's ``surrogateescape``: the byte FF is ``%FF`` in
a query, and ``"\\udcff"`` in the JSON of requests and answers.
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
    FileOperationFailed,
    FolderMissing,
    Forbidden,
    GuestFault,
    InvalidPath,
    PathNotAllowed,
    ThawboxError,
    UserError,
)
from thawbox.gateway.context import context_of
from thawbox.gateway.run.execution import agent_unavailable
from thawbox.gateway.target import Target, in_workspace
from thawbox.guest import GuestError
from thawbox.settings import Settings

PATH_MAX = 4096


class AsciiJSONResponse(JSONResponse):
    """JSON in ASCII, which can hold every file name."""

    def render(self, content: Any) -> bytes:
        """``content`` as JSON."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


@contextlib.contextmanager
def file_errors(target: Target, path: str, *, folder: bool = False) -> Iterator[None]:
    """Turns the agent's errors in this block into errors about ``path``.

    ``folder``: whether a missing path should have been a folder.

    Raises:
        ThawboxError: see ``file_error``.
        SandboxUnavailable: the agent does not answer properly.
    """
    try:
        yield
    except GuestError as error:
        raise file_error(error, path, folder=folder) from error
    except GuestFault as error:
        raise agent_unavailable(target, error) from error


def requested_path(request: Request, default: str | None = None) -> str:
    """The query's ``path``, absolute.

    Raises:
        UserError: the query has more than 100 fields.
        InvalidPath, PathNotAllowed: see ``absolute``.
    """
    query = request.scope["query_string"].decode("utf-8", "surrogateescape")
    try:
        fields = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape", max_num_fields=100))
    except ValueError:
        raise UserError("The query has too many fields.") from None
    return absolute(fields.get("path", default or ""), context_of(request).settings)


def absolute(path: str, settings: Settings) -> str:
    """``path`` as requests give it, made absolute: a relative one starts in the workspace.

    Raises:
        InvalidPath: no file can have this name.
        PathNotAllowed: it is in none of the setting ``file_roots``.
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
    # The checked path is the one that is used. It has no "..", which could lead out through a symlink.
    plain = "/" + posixpath.normpath(path).lstrip("/")
    for root in roots:
        root = root.rstrip("/")
        if plain == (root or "/") or plain.startswith(root + "/"):
            return plain + "/" if path.endswith("/") and plain != "/" else plain
    raise PathNotAllowed(
        f"{printable(path)} is not in a folder that this server opens: {', '.join(roots)}.",
        details={"path": printable(path)},
    )


def printable(path: str) -> str:
    """A path for people: bytes that are not UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def file_error(error: GuestError, path: str, *, folder: bool = False) -> ThawboxError:
    """The agent's error as an error about ``path``. Never a 5xx, because clients repeat those."""
    path = printable(path)
    message = error.message.encode("utf-8", "replace").decode("utf-8", "replace")
    details = {"path": path} if path else None
    match error.code:
        case "NOT_FOUND" if folder:
            return FolderMissing(f"There is no folder {path} in the sandbox.", details=details)
        case "NOT_FOUND":
            return FileMissing(f"There is no file {path} in the sandbox.", details=details)
        case "IS_DIRECTORY" | "NOT_REGULAR" | "ENOTDIR" | "ENAMETOOLONG" | "ELOOP" | "INVALID":
            return InvalidPath(f"{message}.", details=details)
        case "ALREADY_EXISTS":
            return FileExists(f"{path} exists already.", details=details)
        case "EACCES" | "EPERM" | "EROFS":
            return Forbidden(f"{message}.", details=details)
        case "ENOSPC" | "EDQUOT" | "EFBIG":
            return DiskFull(
                f"{path}: the sandbox's disk is full, or that of its server. Remove something, build the "
                "template with more diskGB, or ask the operator to make room.",
                details=details,
            )
        case _:
            return FileOperationFailed(f"{message} ({error.code}).", details=details)
