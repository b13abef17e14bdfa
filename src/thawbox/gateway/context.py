"""What the gateway works with; one value, made by the server, handed to ``create_gateway``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from thawbox.errors import AuthenticationRequired, InvalidToken, SandboxNotFound
from thawbox.sandboxes.contract import Sandboxes
from thawbox.sandboxes.tokens import TokenSigner
from thawbox.settings import Settings
from thawbox.store import sandboxes
from thawbox.store.database import Database
from thawbox.store.sandboxes import SandboxRow
from thawbox.web import context as http_context


@dataclass(frozen=True)
class GatewayContext:
    """The parts behind the gateway."""

    settings: Settings
    database: Database
    sandboxes: Sandboxes
    tokens: TokenSigner
    started_at: float = field(default_factory=time.time)


def context_of(request: HTTPConnection) -> GatewayContext:
    """The context that the app was made with."""
    context: GatewayContext = request.app.state.context
    return context


def has_token(request: HTTPConnection) -> bool:
    """Whether the request brings something that could be a token."""
    return bool(http_context.bearer(request.scope))


def token_of(request: HTTPConnection) -> str | None:
    """What the request brings as a token."""
    text = http_context.bearer(request.scope)
    if not text and request.scope["type"] == "websocket":
        return request.query_params.get("token")  # a browser cannot set headers of a WebSocket
    return text


async def sandbox_of(request: HTTPConnection) -> SandboxRow:
    """The sandbox that the request's token opens.

    Raises:
        AuthenticationRequired: there is no token.
        InvalidToken: it is forged or expired, or the address is another sandbox's.
        SandboxNotFound: the sandbox was deleted or its time is over.
    """
    text = token_of(request)
    if not text:
        raise AuthenticationRequired("Send the sandbox's token as 'Authorization: Bearer <token>'.")
    parts = context_of(request)
    claims = parts.tokens.check(text)
    if request.scope["state"].get("addressed", claims.sandbox_id) != claims.sandbox_id:
        raise InvalidToken("The token is for another sandbox than the address.")
    async with parts.database.read() as connection:
        row = await sandboxes.get(connection, claims.sandbox_id)
    if row is None or row.expired(time.time()):
        raise SandboxNotFound("Sandbox not found")
    if row.organization_id != claims.organization_id:
        raise InvalidToken("The token is not one that this server gave out for a sandbox.")
    request.state.sandbox_id = row.id  # for the counters
    return row
