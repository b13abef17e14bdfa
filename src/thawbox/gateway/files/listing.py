"""``GET /files/list`` (contract E.4)."""

from __future__ import annotations

import stat
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.gateway import target as targets
from thawbox.guest import FileInfo
from thawbox.util.timestamps import rfc3339
from thawbox.web import context

from .paths import PathAnswer, asked_path, refusals

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


@router.get("/files/list")
async def list_folder(request: Request, path: str = targets.WORKSPACE) -> JSONResponse:
    """What is in a folder, by name. Every fact under all names that clients read."""
    target = await targets.target_of(request)
    path = asked_path(request, targets.WORKSPACE)
    with refusals(target, path, folder=True):
        entries = await guest.list_dir(target.endpoint, path)
    return PathAnswer(
        {
            "files": [_item(path.rstrip("/"), entry) for entry in entries],
            "path": path,
            "count": len(entries),
            "request_id": context.request_id(),
        }
    )


def _item(folder: str, entry: FileInfo) -> dict[str, Any]:
    is_folder = "directory" in (entry.type, entry.leads_to)
    changed = rfc3339(min(max(entry.mtime, 0.0), _LAST_TIME))
    item = {
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
