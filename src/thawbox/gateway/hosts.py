"""Which sandbox and which program an address means: by host name if there is a domain, by path without."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from thawbox.web import context as http_context
from thawbox.web.addresses import PORTS_PATH, Place, place_of

from .context import GatewayContext, token_of
from .ports.access import Visit
from .ports.concurrency import Concurrency
from .ports.forwarding import PortForwarding

_PATH = re.compile(PORTS_PATH.encode() + rb"([a-z0-9]{1,57})/([1-9][0-9]{0,4})(/.*)?", re.DOTALL)


class HostRouter:
    """Sends requests for programs inside to them, and all others to the API of sandboxes.

    At a sandbox's own host name that API is told in ``scope["state"]["addressed"]`` whose it is.
    """

    def __init__(self, app: ASGIApp, *, parts: GatewayContext, port_connections: Concurrency) -> None:
        self._app = app
        self._parts = parts
        self._ports = PortForwarding(parts, port_connections)
        self._interface = Concurrency(parts.settings.sandbox_requests, "requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        place = place_of(http_context.header(scope, b"host") or "", self._parts.settings)
        raw = scope.get("raw_path") or scope["path"].encode()
        if place is not None and place.port is not None:
            await self._ports(Visit(scope, place, place.port, raw), receive, send)
        elif place is None and (named := _PATH.fullmatch(raw)) and 0 < int(named[2]) < 65536:
            visit = _visit_by_path(scope, named)
            await self._ports(visit, receive, send)
        else:
            state = scope.setdefault("state", {})
            if place is not None:
                state["addressed"] = place.sandbox_id
            # Whom the token opens; whether it is any good is for the API to say.
            whose = self._parts.tokens.whose(token_of(HTTPConnection(scope)) or "")
            if whose is None:
                await self._app(scope, receive, send)
                return
            with self._interface.hold(whose):
                await self._app(scope, receive, send)


def _visit_by_path(scope: Scope, named: re.Match[bytes]) -> Visit:
    sandbox_id, port = named[1].decode(), int(named[2])
    prefix = f"{PORTS_PATH}{sandbox_id}/{port}"
    return Visit(scope, Place(sandbox_id, port), port, named[3] or b"/", prefix)
