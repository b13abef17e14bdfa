"""``/desktop/…`` (contract E.8): no template has a desktop, said so that the clients understand it."""

from __future__ import annotations

from fastapi import APIRouter, Request

from thawbox.errors import ThawboxError
from thawbox.gateway.context import sandbox_of

router = APIRouter(tags=["desktop"], include_in_schema=False)


class DesktopNotAvailable(ThawboxError):
    """501 instead of the contract's 503, which clients would ask three times."""

    status = 501
    code = "DESKTOP_NOT_AVAILABLE"
    title = "Desktop not available"


@router.api_route("/desktop/{path:path}", methods=["GET", "POST"])
async def desktop(request: Request, path: str) -> None:
    """Refused, whatever is asked of a desktop.

    Raises:
        DesktopNotAvailable: there is none.
    """
    await sandbox_of(request)
    raise DesktopNotAvailable("Sandboxes have no desktop: run graphical programs under Xvfb, by commands.")
