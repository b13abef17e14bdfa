"""The gateway as an ASGI application: the API of all sandboxes and the programs inside, on one port."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

import thawbox
from thawbox.errors import GuestFault, SandboxUnavailable
from thawbox.guest.channel import GuestError
from thawbox.sandboxes.serving import ServingContext
from thawbox.web import errors, openapi
from thawbox.web.limits import RequestLimiter
from thawbox.web.middleware import RequestMiddleware

from .counters import CountRequests
from .files import content, listing, transfers, watch
from .hosts import HostRouter
from .ports import tcp
from .ports.concurrency import Concurrency
from .run import background, callbacks, code, commands, ipython, processes
from .sandbox import desktop, env, health, info, metrics
from .sockets import stream, terminal

_GROUPS = (
    health,
    info,
    code,
    commands,
    background,
    callbacks,
    processes,
    env,
    content,
    listing,
    transfers,
    watch,
    metrics,
    ipython,
    stream,
    terminal,
    tcp,
    desktop,
)
"""Modules of the sandbox API; each has its routes in ``router``."""

_DESCRIPTION = (
    "Inside one sandbox: the token says which, or a host name of its own. Besides, WebSockets at /terminal, "
    "/files/watch and /tcp/{port}, and the programs inside at the sandbox's preview_url. Every answer has a "
    "request id, every error the same shape."
)
_SCHEMES = {
    "Token": {
        "type": "http",
        "scheme": "bearer",
        "description": "`auth_token` of the sandbox",
        "bearerFormat": "JWT",
    }
}
_ERRORS = (400, 401, 403, 404, 409, 413, 429, 500, 503)


def create_gateway(context: ServingContext) -> FastAPI:
    """The gateway over ``context``, which stays the caller's to close."""
    app = FastAPI(
        title="Thawbox gateway",
        version=thawbox.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.port_connections = Concurrency(context.settings.port_connections, "connections to its ports")
    app.add_middleware(HostRouter, context=context, port_connections=app.state.port_connections)
    # No limit per minute: a sandbox is its user's, who may use it as much as it can take.
    app.add_middleware(CountRequests)
    app.add_middleware(RequestMiddleware, plane="gateway", limiter=RequestLimiter(0))
    errors.install(app, gateway=True)
    for kind in (GuestError, GuestFault):
        app.add_exception_handler(kind, _agent_error)
    for group in _GROUPS:
        app.include_router(group.router)
    openapi.describe(app, schemes=_SCHEMES, public={"/", "/health", "/ping"}, everywhere=_ERRORS)
    return app


async def _agent_error(_request: Request, error: Exception) -> Response:
    """For an agent's error that no route expects. The guest may have changed the agent: not a fault of the server."""
    assert isinstance(error, (GuestError, GuestFault))
    unavailable = SandboxUnavailable(f"The sandbox's agent does not answer properly: {error.message[:500]}")
    return errors.response(unavailable, gateway=True)
