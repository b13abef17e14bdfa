"""Who may reach a program inside, and which parts of the request it gets.

Ports are private unless the sandbox was created with ``public_ports``. A private one opens to the sandbox's token:
as ``Authorization: Bearer``, as ``X-Thawbox-Token``, or once as ``?token=`` in a browser, which then gets a cookie
of its own and an address without the token.

The program is not trusted: it never gets a token or cookie of the gateway. Nor does it get what a client claims about
its own origin.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Scope

from thawbox.errors import AuthenticationRequired, InvalidToken, SandboxNotFound
from thawbox.sandboxes.serving import ServingContext
from thawbox.sandboxes.tokens import TokenClaims
from thawbox.settings import Settings
from thawbox.store import sandboxes
from thawbox.store.sandboxes import SandboxRow
from thawbox.web.addresses import parse_host

RawHeaders = list[tuple[bytes, bytes]]

_COOKIE = "thawbox-port"
_HOP_BY_HOP = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
_NEVER_DROPPED = frozenset((b"host", b"content-length"))
"""Headers that ``Connection`` cannot remove: without them the message would mean something else."""
_ORIGIN_HEADERS = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip|x-thawbox-.*")
"""Headers about the request's origin. Only the gateway sets them."""
_KEY = re.compile(r"hopx_(live|test)_[A-Za-z0-9]{12}\..*", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A request for a program inside. ``prefix`` is the part of the address before the program's own ``path``."""

    scope: Scope
    sandbox_id: str
    port: int
    path: bytes
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """The sandbox, and the claims of a token in the query, if there was one."""

    sandbox: SandboxRow
    claims_in_query: TokenClaims | None


async def admit(context: ServingContext, request: PortRequest) -> Admission:
    """The sandbox of the request, if the request may reach the port.

    Without a token every refusal is the same, whether or not the sandbox exists.

    Raises:
        AuthenticationRequired: the port is private, and the request has no token or cookie for it.
        InvalidToken: the token is forged, expired, or of another sandbox.
        SandboxNotFound: the sandbox was deleted or has expired.
    """
    async with context.database.read() as connection:
        row = await sandboxes.get(connection, request.sandbox_id)
    if row is not None and row.expired(time.time()):
        row = None
    in_query = _token_in_query(context, request)
    if row is not None and row.is_public(request.port):
        return Admission(row, context.tokens.check(in_query) if in_query else None)
    token = in_query or _token_in_headers(context, request)
    if token is None and row is not None and _has_cookie(context, request, row):
        return Admission(row, None)
    if token is None:
        raise AuthenticationRequired(
            "This port is private: send the sandbox's token as 'Authorization: Bearer <token>' or "
            "'X-Thawbox-Token: <token>'."
        )
    claims = context.tokens.check(token)
    if claims.sandbox_id != request.sandbox_id:
        raise InvalidToken("The token is for another sandbox than the address.")
    if row is None:
        raise SandboxNotFound("Sandbox not found")
    if row.organization_id != claims.organization_id:
        raise InvalidToken("This server did not issue the token for this sandbox.")
    return Admission(row, claims if in_query else None)


def cookie(context: ServingContext, request: PortRequest, claims: TokenClaims) -> str:
    """``Set-Cookie`` for a browser that sent a token. The cookie opens this sandbox's ports and nothing else."""
    ends = int(claims.expires_at)
    secure = "; Secure" if _is_https(context.settings) else ""
    value = f"{ends}.{_seal(context, request.sandbox_id, claims.organization_id, ends)}"
    return (
        f"{_cookie_name(context.settings)}={value}; Path=/; HttpOnly; SameSite=Lax; "
        f"Max-Age={max(0, ends - int(time.time()))}{secure}"
    )


def query_without_token(context: ServingContext, query: bytes) -> bytes:
    """The query without the gateway's tokens; all else byte for byte."""
    return b"&".join(part for part in query.split(b"&") if _token_of(context, part) is None)


def headers_for_program(context: ServingContext, request: PortRequest) -> RawHeaders:
    """The headers for the program: the request's without credentials, and the gateway's own about the origin."""
    received: RawHeaders = request.scope["headers"]
    passed = [(name, value) for name, value in end_to_end(received) if not _ORIGIN_HEADERS.fullmatch(name)]
    passed = [(name, value) for name, value in passed if not _is_credential(context, name, value)]
    passed = _without_gateway_cookie(context, passed) if not request.prefix else _without(passed, b"cookie")
    client = request.scope.get("client")
    host = Headers(raw=received).get("host", "")
    scheme = {"ws": "http", "wss": "https"}.get(request.scope["scheme"], request.scope["scheme"])
    origin = {
        "x-forwarded-for": client[0] if client else "",
        "x-forwarded-proto": "https" if not request.prefix and _is_https(context.settings) else scheme,
        "x-forwarded-host": host,
        "x-forwarded-prefix": request.prefix,
    }
    return passed + [(name.encode(), value.encode("latin-1")) for name, value in origin.items() if value]


def headers_for_client(request: PortRequest, headers: RawHeaders) -> RawHeaders:
    """The program's headers for the client.

    A cookie is limited to the host name that set it. Where sandboxes share a host name, cookies are removed.
    """
    passed = [
        (name, value) for name, value in end_to_end(headers) if name != b"date"
    ]  # the listener sets its own
    if request.prefix:
        return _without(passed, b"set-cookie")
    return [(name, _without_domain(value) if name == b"set-cookie" else value) for name, value in passed]


def end_to_end(headers: RawHeaders) -> RawHeaders:
    """``headers`` without those for the next hop alone; names are in lower case."""
    named = {
        word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")
    }
    dropped = _HOP_BY_HOP | (named - _NEVER_DROPPED)
    return [(name, value) for name, value in headers if name not in dropped]


def _token_in_headers(context: ServingContext, request: PortRequest) -> str | None:
    headers = Headers(raw=request.scope["headers"])
    if token := headers.get("x-thawbox-token"):
        return token.strip()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _token_in_query(context: ServingContext, request: PortRequest) -> str | None:
    """The gateway's token in the query, unless it would stay in the page's address: the program's scripts read that."""
    redirected = request.scope["type"] == "http" and request.scope["method"] in ("GET", "HEAD")
    if request.prefix or not (redirected or request.scope["type"] == "websocket"):
        return None
    for part in request.scope["query_string"].split(b"&"):
        if token := _token_of(context, part):
            return token
    return None


def _token_of(context: ServingContext, part: bytes) -> str | None:
    # Programs have parameters of this name, too (Jupyter): only a token that the gateway signed counts.
    name, _, value = part.partition(b"=")
    if name != b"token" or not value.startswith(b"ey"):
        return None
    token = unquote_to_bytes(value).decode("latin-1")
    return token if context.tokens.whose(token) else None


def _is_credential(context: ServingContext, name: bytes, value: bytes) -> bool:
    text = value.decode("latin-1").strip()
    if name == b"authorization":
        credentials = text.partition(" ")[2].strip()
        return bool(_KEY.fullmatch(credentials)) or context.tokens.whose(credentials) is not None
    return name == b"x-api-key" and bool(_KEY.fullmatch(text))


def _has_cookie(context: ServingContext, request: PortRequest, row: SandboxRow) -> bool:
    if request.prefix or not _same_sandbox(request, context.settings):
        return False
    name = _cookie_name(context.settings).encode()
    for value in _cookies(request.scope["headers"]):
        key, _, content = value.partition(b"=")
        ends, _, seal = content.decode("latin-1").partition(".")
        if key != name or not re.fullmatch("[0-9]{1,12}", ends, re.ASCII) or int(ends) <= time.time():
            continue
        expected = _seal(context, row.id, row.organization_id, int(ends))
        if hmac.compare_digest(seal.encode("latin-1"), expected.encode()):
            return True
    return False


def _same_sandbox(request: PortRequest, settings: Settings) -> bool:
    """Whether the request comes from the sandbox's own pages. SameSite does not tell: all sandboxes are one site."""
    origin = Headers(raw=request.scope["headers"]).get("origin")
    if origin is None:
        return True
    host = parse_host(origin.partition("://")[2], settings)
    return host is not None and host.sandbox_id == request.sandbox_id


def _without_gateway_cookie(context: ServingContext, headers: RawHeaders) -> RawHeaders:
    name = _cookie_name(context.settings).encode()
    kept = [value for value in _cookies(headers) if value.partition(b"=")[0] != name]
    rest = _without(headers, b"cookie")
    return [*rest, (b"cookie", b"; ".join(kept))] if kept else rest


def _cookies(headers: RawHeaders) -> list[bytes]:
    lines = [value for name, value in headers if name == b"cookie"]
    return [part.strip() for line in lines for part in line.split(b";") if part.strip()]


def _without_domain(set_cookie: bytes) -> bytes:
    parts = set_cookie.split(b";")
    return b";".join(part for part in parts if part.partition(b"=")[0].strip().lower() != b"domain")


def _without(headers: RawHeaders, unwanted: bytes) -> RawHeaders:
    return [(name, value) for name, value in headers if name != unwanted]


def _cookie_name(settings: Settings) -> str:
    # Browsers take a name with this prefix from https alone, for one host alone: no other host can plant one.
    return f"__Host-{_COOKIE}" if _is_https(settings) else _COOKIE


def _is_https(settings: Settings) -> bool:
    return settings.domain is not None and settings.domain_scheme == "https"


def _seal(context: ServingContext, sandbox_id: str, organization_id: int, ends: int) -> str:
    text = f"{sandbox_id} {organization_id} {ends}".encode()
    return hmac.digest(context.tokens.derive("port cookie"), text, hashlib.sha256).hex()
