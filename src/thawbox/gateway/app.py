"""The gateway as an ASGI application: the API of all sandboxes, and the ports of the programs inside, on one port."""

from __future__ import annotations

from fastapi import FastAPI

import thawbox
from thawbox.http import errors
from thawbox.http.limits import RequestLimiter
from thawbox.http.middleware import RequestMiddleware

from . import (
    background,
    callbacks,
    code,
    commands,
    env,
    files,
    health,
    info,
    jupyter,
    listing,
    metrics,
    processes,
    tcp,
    terminal,
    transfers,
    watch,
)
from .concurrency import Concurrency
from .context import GatewayContext
from .counters import CountRequests
from .hosts import HostRouter


def create_gateway(context: GatewayContext) -> FastAPI:
    """The gateway over ``context``. It owns nothing: whoever made the context ends it."""
    app = FastAPI(
        title="Thawbox gateway",
        version=thawbox.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.port_connections = Concurrency(context.settings.port_connections, "connections to its ports")
    app.add_middleware(HostRouter, parts=context, port_connections=app.state.port_connections)
    # A sandbox belongs to its user, who may ask it as often as it can answer.
    app.add_middleware(CountRequests)
    app.add_middleware(RequestMiddleware, plane="gateway", limiter=RequestLimiter(0))
    errors.install(app, gateway=True)
    for module in (
        health,
        info,
        code,
        commands,
        background,
        callbacks,
        processes,
        env,
        files,
        listing,
        transfers,
        watch,
        metrics,
        jupyter,
        terminal,
        tcp,
    ):
        app.include_router(module.router)
    return app
