"""The control plane as an ASGI application."""

from __future__ import annotations

from fastapi import FastAPI

import thawbox
from thawbox.web import errors, openapi
from thawbox.web.limits import RequestLimiter
from thawbox.web.middleware import RequestMiddleware

from . import account, builds, copies, events, health, lifecycle, sandboxes, templates, uploads
from .auth import KeyMiddleware
from .context import ApiContext
from .upload_urls import UPLOAD_PREFIX

_DESCRIPTION = "Build templates, boot sandboxes. Every answer has a request id, every error the same shape."
_SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <API key>`"},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def create_app(context: ApiContext) -> FastAPI:
    """The control plane as an application that uses ``context``. The caller closes the context."""
    app = FastAPI(
        title="Thawbox",
        version=thawbox.__version__,
        description=_DESCRIPTION,
        docs_url=None,  # the page would load its scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    limiter = RequestLimiter(context.settings.requests_per_minute)
    app.add_middleware(KeyMiddleware, database=context.database, limiter=limiter)
    app.add_middleware(RequestMiddleware, plane="api", limiter=limiter)  # added last: outermost
    errors.install(app, gateway=False)
    # The order decides which route matches first: builds and uploads come before templates, because the "build" in
    # /v1/templates/build is not a template's name; events come before templates and sandboxes for the same reason.
    for module in (health, builds, uploads, events, templates, sandboxes, lifecycle, copies, account):
        app.include_router(module.router)
    openapi.describe(app, schemes=_SCHEMES, public={"/health", UPLOAD_PREFIX + "{file_id}"})
    return app
