"""What a request to the gateway brings: the app's context, the token, the token's sandbox."""

from __future__ import annotations

import time

from starlette.requests import HTTPConnection

from thawbox.errors import AuthenticationRequired, InvalidToken, SandboxNotFound
from thawbox.sandboxes.serving import ServingContext
from thawbox.store import sandboxes
from thawbox.store.sandboxes import SandboxRow
from thawbox.web.context import bearer


def context_of(request: HTTPConnection) -> ServingContext:
    """The context of the app."""
    context: ServingContext = request.app.state.context
    return context


def has_token(request: HTTPConnection) -> bool:
    """Whether the request has a bearer token, valid or not."""
    return bool(bearer(request.scope))


def token_of(request: HTTPConnection) -> str | None:
    """The request's token, unchecked; None if it has none."""
    text = bearer(request.scope)
    if not text and request.scope["type"] == "websocket":
        return request.query_params.get("token")  # a browser cannot set headers of a WebSocket
    return text


async def sandbox_of(request: HTTPConnection) -> SandboxRow:
    """The sandbox that the request's token is for.

    Raises:
        AuthenticationRequired: there is no token.
        InvalidToken: it is forged or expired, or the address is another sandbox's.
        SandboxNotFound: the sandbox was deleted or has expired.
    """
    text = token_of(request)
    if not text:
        raise AuthenticationRequired("Send the sandbox's token as 'Authorization: Bearer <token>'.")
    context = context_of(request)
    claims = context.tokens.check(text)
    if request.scope["state"].get("addressed", claims.sandbox_id) != claims.sandbox_id:
        raise InvalidToken("The token is for another sandbox than the address.")
    async with context.database.read() as connection:
        row = await sandboxes.get(connection, claims.sandbox_id)
    if row is None or row.expired(time.time()):
        raise SandboxNotFound("Sandbox not found")
    if row.organization_id != claims.organization_id:
        raise InvalidToken("This server did not issue the token for this sandbox.")
    request.state.sandbox_id = row.id  # for the counters
    return row
