"""``/desktop/…``: no template has a desktop, said so that the clients understand it.

What clients rely on: docs/reference/compatibility/gateway.md#desktop.
"""

from __future__ import annotations

from fastapi import APIRouter, Request

from thawbox.errors import DesktopNotAvailable
from thawbox.gateway.context import sandbox_of

router = APIRouter(tags=["desktop"], include_in_schema=False)


@router.api_route("/desktop/{path:path}", methods=["GET", "POST"])
async def desktop(request: Request, path: str) -> None:
    """Every request for a desktop is refused.

    Raises:
        DesktopNotAvailable: always.
    """
    await sandbox_of(request)
    raise DesktopNotAvailable(
        "Sandboxes have no desktop: run graphical programs under Xvfb with /commands/run."
    )
