"""The gateway as an ASGI application: the API of all sandboxes on one port; the token says which is meant."""

from __future__ import annotations

from fastapi import FastAPI

import thawbox
from thawbox.http import errors
from thawbox.http.limits import RequestLimiter
from thawbox.http.middleware import RequestMiddleware

from . import background, code, commands, env, files, health, info, ipython, metrics, processes
from .context import GatewayContext
from .counters import CountRequests


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
    # A sandbox belongs to its user, who may ask it as often as it can answer.
    app.add_middleware(CountRequests)
    app.add_middleware(RequestMiddleware, plane="gateway", limiter=RequestLimiter(0))
    errors.install(app, gateway=True)
    for module in (health, info, code, commands, background, processes, env, files, metrics, ipython):
        app.include_router(module.router)
    return app
