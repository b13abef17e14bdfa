"""``GET /files/list``.

What clients rely on: docs/reference/compatibility/gateway.md#items-of-a-listing.
"""

from __future__ import annotations

import stat

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.gateway import target as targets
from thawbox.gateway.answers import answers
from thawbox.guest import FileInfo
from thawbox.util.timestamps import rfc3339
from thawbox.web.context import request_id

from .answers import FolderItem, FolderListing
from .paths import AsciiJSONResponse, file_errors, requested_path

router = APIRouter(tags=["files"])

_TYPE_BITS = {
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "device": stat.S_IFCHR,
}
_LAST_TIME = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970; clients cannot read a later date."""


@router.get("/files/list", responses=answers(FolderListing))
async def list_folder(request: Request, path: str = targets.WORKSPACE) -> JSONResponse:
    """The entries of a folder, by name. Every fact has all names that clients read."""
    target = await targets.target_of(request)
    path = requested_path(request, targets.WORKSPACE)
    with file_errors(target, path, folder=True):
        entries = await guest.list_dir(target.endpoint, path)
    answer: FolderListing = {
        "files": [_item(path.rstrip("/"), entry) for entry in entries],
        "path": path,
        "count": len(entries),
        "request_id": request_id(),
    }
    return AsciiJSONResponse(answer)


def _item(folder: str, entry: FileInfo) -> FolderItem:
    is_folder = "directory" in (entry.type, entry.leads_to)
    changed = rfc3339(min(max(entry.mtime, 0.0), _LAST_TIME))
    item: FolderItem = {
        "name": entry.name,
        "path": f"{folder}/{entry.name}",
        "size": entry.size,
        "is_directory": is_folder,
        "is_dir": is_folder,
        "modified_time": changed,
        "modified": changed,
        "permissions": stat.filemode(_TYPE_BITS.get(entry.type, stat.S_IFREG) | (entry.mode & 0o7777)),
        "type": entry.type,
    }
    if entry.target is not None:
        item["target"] = entry.target
    return item
