"""Which sandbox and program an address stands for: by host name if there is a domain, else by path."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from thawbox.sandboxes.serving import ServingContext
from thawbox.web.addresses import PORTS_PATH, parse_host
from thawbox.web.context import header

from .context import token_of
from .ports.access import PortRequest
from .ports.concurrency import Concurrency
from .ports.forwarding import PortForwarding

_PATH = re.compile(PORTS_PATH.encode() + rb"([a-z0-9]{1,57})/([1-9][0-9]{0,4})(/.*)?", re.DOTALL)


class HostRouter:
    """Passes requests for programs inside to them, and all others to the sandbox API.

    For a sandbox's own host name, ``scope["state"]["addressed"]`` is the sandbox's id.
    """

    def __init__(self, app: ASGIApp, *, context: ServingContext, port_connections: Concurrency) -> None:
        self._app = app
        self._context = context
        self._ports = PortForwarding(context, port_connections)
        self._requests = Concurrency(context.settings.sandbox_requests, "requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        host = parse_host(header(scope, b"host") or "", self._context.settings)
        raw_path = scope.get("raw_path") or scope["path"].encode()
        if host is not None and host.port is not None:
            await self._ports(PortRequest(scope, host.sandbox_id, host.port, raw_path), receive, send)
        elif host is None and (match := _PATH.fullmatch(raw_path)) and 0 < int(match[2]) < 65536:
            await self._ports(_request_by_path(scope, match), receive, send)
        else:
            state = scope.setdefault("state", {})
            if host is not None:
                state["addressed"] = host.sandbox_id
            # Only names the sandbox; the API checks the token.
            sandbox_id = self._context.tokens.whose(token_of(HTTPConnection(scope)) or "")
            if sandbox_id is None:
                await self._app(scope, receive, send)
                return
            with self._requests.hold(sandbox_id):
                await self._app(scope, receive, send)


def _request_by_path(scope: Scope, match: re.Match[bytes]) -> PortRequest:
    sandbox_id, port = match[1].decode(), int(match[2])
    prefix = f"{PORTS_PATH}{sandbox_id}/{port}"
    return PortRequest(scope, sandbox_id, port, match[3] or b"/", prefix)
