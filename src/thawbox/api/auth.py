"""Who sends a request, and how many requests they may send.

The two headers that clients send: docs/reference/compatibility/conventions.md#authentication.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from thawbox.errors import AuthenticationRequired, Unauthorized
from thawbox.store import keys
from thawbox.store.database import Database
from thawbox.web import context as http_context
from thawbox.web.limits import RequestLimiter

from .upload_urls import UPLOAD_PREFIX


class KeyMiddleware:
    """Refuses requests without a valid key, except where no key is needed. Counts requests per organisation.

    The key may come as ``Authorization: Bearer`` or as ``X-API-Key``. The check runs before any body is read.
    """

    def __init__(self, app: ASGIApp, *, database: Database, limiter: RequestLimiter) -> None:
        self._app = app
        self._database = database
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            AuthenticationRequired: there is no key.
            Unauthorized: the key is unknown, forged or revoked.
            RateLimited: the organisation sends too many requests.
        """
        if scope["type"] == "http" and _needs_key(scope["path"]):
            key = http_context.bearer(scope) or http_context.header(scope, b"x-api-key")
            if not key:
                raise AuthenticationRequired
            async with self._database.read() as connection:
                caller = await keys.verify(connection, key)
            if caller is None:
                raise Unauthorized
            scope["state"]["caller"] = caller
            allowance = await self._limiter.hit(str(caller.organization_id))
            scope["state"]["allowance"] = allowance
            allowance.check()
        await self._app(scope, receive, send)


def _needs_key(path: str) -> bool:
    return path == "/metrics" or (path.startswith("/v1") and not path.startswith(UPLOAD_PREFIX))
