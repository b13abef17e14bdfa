"""Port forwarding: requests and WebSockets to the programs that listen inside a sandbox."""

from __future__ import annotations

from types import SimpleNamespace

from starlette.responses import RedirectResponse
from starlette.types import Receive, Send

from thawbox.errors import GuestFault, SandboxUnavailable, ThawboxError, UserError
from thawbox.gateway.context import GatewayContext
from thawbox.guest.channel import Endpoint
from thawbox.guest.reach import NothingListens, reach
from thawbox.web.addresses import INTERFACE_PORT

from .access import Visit, admit, cookie, headers_for_client, headers_for_program, query_without_token
from .concurrency import Concurrency
from .http import Asked, ProgramFailed, forward_request
from .websocket import forward_websocket

_ROUTE = SimpleNamespace(path="/ports/{id}/{port}")
"""How metrics call all of these requests."""


class BadGateway(ThawboxError):
    """The program inside does not answer as it should. A 502, but no fault of ours: clients show it to people."""

    status = 502
    code = "PORT_NOT_REACHABLE"
    title = "Port not reachable"


class PortForwarding:
    """Serves what ``HostRouter`` found to be meant for a program."""

    def __init__(self, parts: GatewayContext, limit: Concurrency) -> None:
        self._parts = parts
        self._limit = limit

    async def __call__(self, visit: Visit, receive: Receive, send: Send) -> None:
        """Pass one request or WebSocket on to its end.

        Raises:
            ThawboxError: it cannot be; nothing has been answered yet.
        """
        visit.scope["route"] = _ROUTE
        admission = await admit(self._parts, visit)
        _check(visit)
        query = query_without_token(self._parts, visit.scope["query_string"])
        is_http = visit.scope["type"] == "http"
        if is_http and admission.claims_in_query is not None:
            # Not "//host/…", which would lead elsewhere.
            where = b"/" + visit.path.lstrip(b"/") + (b"?" + query if query else b"")
            answer = RedirectResponse(where.decode("latin-1"), 302)
            if admission.claims_in_query.sandbox_id == visit.place.sandbox_id:
                answer.headers["Set-Cookie"] = cookie(self._parts, visit, admission.claims_in_query)
            answer.headers["Cache-Control"] = "no-store"
            answer.headers["Referrer-Policy"] = "no-referrer"
            await answer(visit.scope, receive, send)
            return
        endpoint = await self._parts.sandboxes.endpoint(admission.sandbox)
        asked = Asked(
            method="GET" if not is_http else visit.scope["method"],
            target=visit.path + (b"?" + query if query else b""),
            headers=headers_for_program(self._parts, visit),
            chunked=any(name == b"transfer-encoding" for name, _ in visit.scope["headers"]),
        )
        with self._limit.hold(visit.place.sandbox_id):
            await self._forward(visit, endpoint, asked, receive, send)

    async def _forward(
        self, visit: Visit, endpoint: Endpoint, asked: Asked, receive: Receive, send: Send
    ) -> None:
        idle = float(self._parts.settings.port_idle_timeout_s)
        try:
            async with reach(endpoint, visit.port) as sock:
                if visit.scope["type"] == "http":
                    visit.scope.setdefault("state", {})["passed_on"] = True  # the answer is the program's
                    try:
                        await forward_request(
                            sock, asked, lambda found: headers_for_client(visit, found), idle, receive, send
                        )
                    except ProgramFailed:
                        visit.scope["state"]["passed_on"] = False
                        raise
                else:
                    await forward_websocket(sock, asked, visit.scope, receive, send)
        except NothingListens:
            raise BadGateway(
                f"Nothing listens on port {visit.port} in sandbox {visit.place.sandbox_id}: "
                "start the program, or look whether it still runs."
            ) from None
        except ProgramFailed as error:
            raise BadGateway(
                f"The program on port {visit.port} in sandbox {visit.place.sandbox_id} {error}."
            ) from None
        except GuestFault as error:
            raise SandboxUnavailable(
                f"Sandbox {visit.place.sandbox_id} does not answer: {error.message}"
            ) from error


def _check(visit: Visit) -> None:
    if visit.scope["type"] == "http" and visit.scope["method"] == "CONNECT":
        raise UserError("CONNECT is not possible here: use 'thaw forward' for raw TCP.")
    if not visit.path.startswith(b"/") and visit.path != b"*":
        raise UserError("The request's target must be a path: a proxy's form of request is not served.")
    if visit.port == INTERFACE_PORT:
        raise UserError(f"Port {INTERFACE_PORT} is the sandbox's own interface: see public_host.")
