"""Port forwarding: requests and WebSockets to the programs that listen inside a sandbox."""

from __future__ import annotations

from types import SimpleNamespace

from starlette.responses import RedirectResponse
from starlette.types import Receive, Send

from thawbox.errors import GuestFault, PortNotReachable, SandboxUnavailable, UserError
from thawbox.guest.channel import Endpoint
from thawbox.guest.reach import NothingListens, reach
from thawbox.sandboxes.serving import ServingContext
from thawbox.web.addresses import INTERFACE_PORT

from .access import PortRequest, admit, cookie, headers_for_client, headers_for_program, query_without_token
from .concurrency import Concurrency
from .http import ProgramFailed, ProgramRequest, forward_request
from .websocket import forward_websocket

_ROUTE = SimpleNamespace(path="/ports/{id}/{port}")
"""The name of all these requests in metrics."""


class PortForwarding:
    """Serves the requests that ``HostRouter`` finds to be for a program."""

    def __init__(self, context: ServingContext, limit: Concurrency) -> None:
        self._context = context
        self._limit = limit

    async def __call__(self, request: PortRequest, receive: Receive, send: Send) -> None:
        """Forward one request or WebSocket to its end.

        Raises:
            ThawboxError: it cannot be forwarded; nothing has been answered yet.
        """
        request.scope["route"] = _ROUTE
        admission = await admit(self._context, request)
        _check(request)
        query = query_without_token(self._context, request.scope["query_string"])
        is_http = request.scope["type"] == "http"
        if is_http and admission.claims_in_query is not None:
            # Not "//host/…", which would be another host.
            location = b"/" + request.path.lstrip(b"/") + (b"?" + query if query else b"")
            answer = RedirectResponse(location.decode("latin-1"), 302)
            if admission.claims_in_query.sandbox_id == request.sandbox_id:
                answer.headers["Set-Cookie"] = cookie(self._context, request, admission.claims_in_query)
            answer.headers["Cache-Control"] = "no-store"
            answer.headers["Referrer-Policy"] = "no-referrer"
            await answer(request.scope, receive, send)
            return
        endpoint = await self._context.sandboxes.endpoint(admission.sandbox)
        outgoing = ProgramRequest(
            method="GET" if not is_http else request.scope["method"],
            target=request.path + (b"?" + query if query else b""),
            headers=headers_for_program(self._context, request),
            chunked=any(name == b"transfer-encoding" for name, _ in request.scope["headers"]),
        )
        with self._limit.hold(request.sandbox_id):
            await self._forward(request, endpoint, outgoing, receive, send)

    async def _forward(
        self, request: PortRequest, endpoint: Endpoint, outgoing: ProgramRequest, receive: Receive, send: Send
    ) -> None:
        idle = float(self._context.settings.port_idle_timeout_s)
        try:
            async with reach(endpoint, request.port) as sock:
                if request.scope["type"] == "http":
                    request.scope.setdefault("state", {})["passed_on"] = True  # the answer is the program's
                    try:
                        await forward_request(
                            sock,
                            outgoing,
                            lambda headers: headers_for_client(request, headers),
                            idle,
                            receive,
                            send,
                        )
                    except ProgramFailed:
                        request.scope["state"]["passed_on"] = False
                        raise
                else:
                    await forward_websocket(sock, outgoing, request.scope, receive, send)
        except NothingListens:
            raise PortNotReachable(
                f"Nothing listens on port {request.port} in sandbox {request.sandbox_id}: "
                "start the program, or check whether it still runs."
            ) from None
        except ProgramFailed as error:
            raise PortNotReachable(
                f"The program on port {request.port} in sandbox {request.sandbox_id} {error}."
            ) from None
        except GuestFault as error:
            raise SandboxUnavailable(
                f"Sandbox {request.sandbox_id} does not answer: {error.message}"
            ) from error


def _check(request: PortRequest) -> None:
    if request.scope["type"] == "http" and request.scope["method"] == "CONNECT":
        raise UserError("CONNECT is not possible here: use 'thaw forward' for raw TCP.")
    if not request.path.startswith(b"/") and request.path != b"*":
        raise UserError("The request's target must be a path: this server is not a proxy.")
    if request.port == INTERFACE_PORT:
        raise UserError(
            f"Port {INTERFACE_PORT} is the sandbox's own interface: use the address in public_host."
        )
