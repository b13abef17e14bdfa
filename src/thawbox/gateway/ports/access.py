"""Who may reach a program inside, and what it gets to see of the request.

Ports are private unless the sandbox was created with ``public_ports``. A private one opens to the sandbox's token:
as ``Authorization: Bearer``, as ``X-Thawbox-Token``, or once as ``?token=`` in a browser, which then gets a cookie
of its own and an address without the token.

The program is not trusted: it never sees a token of ours, nor the cookie, and what a client claims about where it
comes from does not reach it.
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
from thawbox.gateway.context import GatewayContext
from thawbox.sandboxes.tokens import TokenClaims
from thawbox.settings import Settings
from thawbox.store import sandboxes
from thawbox.store.sandboxes import SandboxRow
from thawbox.web.addresses import Place, place_of

RawHeaders = list[tuple[bytes, bytes]]

_COOKIE = "thawbox-port"
_HOP_BY_HOP = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
_NEVER_DROPPED = frozenset((b"host", b"content-length"))
"""Without these the message would mean something else, whatever ``Connection`` says."""
_CLAIMS = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip|x-thawbox-.*")
"""Where the request comes from is for us to say."""
_KEY = re.compile(r"hopx_(live|test)_[A-Za-z0-9]{12}\..*", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a program inside. ``prefix`` is what stands before the program's own path, if anything does."""

    scope: Scope
    place: Place
    port: int
    path: bytes
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """The sandbox, and the token that came in the address if one did."""

    sandbox: SandboxRow
    claims_in_query: TokenClaims | None


async def admit(parts: GatewayContext, visit: Visit) -> Admission:
    """The sandbox whose program is meant, if the request may reach it.

    Without a token every refusal is the same, whether or not there is such a sandbox.

    Raises:
        AuthenticationRequired: the port is private, and nothing was sent that opens it.
        InvalidToken: forged, expired, or of another sandbox.
        SandboxNotFound: it was deleted, or its time is over.
    """
    async with parts.database.read() as connection:
        row = await sandboxes.get(connection, visit.place.sandbox_id)
    if row is not None and row.expired(time.time()):
        row = None
    in_query = _token_in_query(parts, visit)
    if row is not None and row.is_public(visit.port):
        return Admission(row, parts.tokens.check(in_query) if in_query else None)
    token = in_query or _token_in_headers(parts, visit)
    if token is None and row is not None and _has_cookie(parts, visit, row):
        return Admission(row, None)
    if token is None:
        raise AuthenticationRequired(
            "This port is private: send the sandbox's token as 'Authorization: Bearer <token>' or "
            "'X-Thawbox-Token: <token>'."
        )
    claims = parts.tokens.check(token)
    if claims.sandbox_id != visit.place.sandbox_id:
        raise InvalidToken("The token is for another sandbox than the address.")
    if row is None:
        raise SandboxNotFound("Sandbox not found")
    if row.organization_id != claims.organization_id:
        raise InvalidToken("The token is not one that this server gave out for a sandbox.")
    return Admission(row, claims if in_query else None)


def cookie(parts: GatewayContext, visit: Visit, claims: TokenClaims) -> str:
    """``Set-Cookie`` for a browser that came with a token. It opens this sandbox's ports and nothing else."""
    ends = int(claims.expires_at)
    secure = "; Secure" if _is_https(parts.settings) else ""
    value = f"{ends}.{_seal(parts, visit.place.sandbox_id, claims.organization_id, ends)}"
    return (
        f"{_cookie_name(parts.settings)}={value}; Path=/; HttpOnly; SameSite=Lax; "
        f"Max-Age={max(0, ends - int(time.time()))}{secure}"
    )


def query_without_token(parts: GatewayContext, query: bytes) -> bytes:
    """The query, byte for byte, but for tokens of ours."""
    return b"&".join(part for part in query.split(b"&") if _token_of(parts, part) is None)


def headers_for_program(parts: GatewayContext, visit: Visit) -> RawHeaders:
    """What of the request's headers the program gets, with ours about where the request comes from."""
    given: RawHeaders = visit.scope["headers"]
    passed = [(name, value) for name, value in end_to_end(given) if not _CLAIMS.fullmatch(name)]
    passed = [(name, value) for name, value in passed if not _is_credential(parts, name, value)]
    passed = _with_cookies_of_its_own(parts, passed) if not visit.prefix else _without(passed, b"cookie")
    client = visit.scope.get("client")
    host = Headers(raw=given).get("host", "")
    scheme = {"ws": "http", "wss": "https"}.get(visit.scope["scheme"], visit.scope["scheme"])
    ours = {
        "x-forwarded-for": client[0] if client else "",
        "x-forwarded-proto": "https" if not visit.prefix and _is_https(parts.settings) else scheme,
        "x-forwarded-host": host,
        "x-forwarded-prefix": visit.prefix,
    }
    return passed + [(name.encode(), value.encode("latin-1")) for name, value in ours.items() if value]


def headers_for_client(visit: Visit, headers: RawHeaders) -> RawHeaders:
    """What of the program's headers the client gets.

    Cookies stay with the host name that they come from; where sandboxes share one, there are none.
    """
    passed = [(name, value) for name, value in end_to_end(headers) if name != b"date"]  # the listener's own
    if visit.prefix:
        return _without(passed, b"set-cookie")
    return [(name, _for_this_host_alone(value) if name == b"set-cookie" else value) for name, value in passed]


def end_to_end(headers: RawHeaders) -> RawHeaders:
    """``headers`` without those that are meant for the next hop alone; names are in lower case."""
    named = {
        word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")
    }
    dropped = _HOP_BY_HOP | (named - _NEVER_DROPPED)
    return [(name, value) for name, value in headers if name not in dropped]


def _token_in_headers(parts: GatewayContext, visit: Visit) -> str | None:
    headers = Headers(raw=visit.scope["headers"])
    if token := headers.get("x-thawbox-token"):
        return token.strip()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _token_in_query(parts: GatewayContext, visit: Visit) -> str | None:
    """A token of ours, where it does not end up in the address of a page, which the program's scripts can read."""
    redirected = visit.scope["type"] == "http" and visit.scope["method"] in ("GET", "HEAD")
    if visit.prefix or not (redirected or visit.scope["type"] == "websocket"):
        return None
    for part in visit.scope["query_string"].split(b"&"):
        if token := _token_of(parts, part):
            return token
    return None


def _token_of(parts: GatewayContext, part: bytes) -> str | None:
    # Programs have parameters of this name, too (Jupyter): only what we signed is ours.
    name, _, value = part.partition(b"=")
    if name != b"token" or not value.startswith(b"ey"):
        return None
    token = unquote_to_bytes(value).decode("latin-1")
    return token if parts.tokens.whose(token) else None


def _is_credential(parts: GatewayContext, name: bytes, value: bytes) -> bool:
    text = value.decode("latin-1").strip()
    if name == b"authorization":
        credentials = text.partition(" ")[2].strip()
        return bool(_KEY.fullmatch(credentials)) or parts.tokens.whose(credentials) is not None
    return name == b"x-api-key" and bool(_KEY.fullmatch(text))


def _has_cookie(parts: GatewayContext, visit: Visit, row: SandboxRow) -> bool:
    if visit.prefix or not _same_sandbox(visit, parts.settings):
        return False
    name = _cookie_name(parts.settings).encode()
    for value in _cookies(visit.scope["headers"]):
        key, _, content = value.partition(b"=")
        ends, _, seal = content.decode("latin-1").partition(".")
        if key != name or not re.fullmatch("[0-9]{1,12}", ends, re.ASCII) or int(ends) <= time.time():
            continue
        expected = _seal(parts, row.id, row.organization_id, int(ends))
        if hmac.compare_digest(seal.encode("latin-1"), expected.encode()):
            return True
    return False


def _same_sandbox(visit: Visit, settings: Settings) -> bool:
    """Pages of other sandboxes are of the same site to a browser, so SameSite alone does not keep them out."""
    origin = Headers(raw=visit.scope["headers"]).get("origin")
    if origin is None:
        return True
    place = place_of(origin.partition("://")[2], settings)
    return place is not None and place.sandbox_id == visit.place.sandbox_id


def _with_cookies_of_its_own(parts: GatewayContext, headers: RawHeaders) -> RawHeaders:
    ours = _cookie_name(parts.settings).encode()
    kept = [value for value in _cookies(headers) if value.partition(b"=")[0] != ours]
    rest = _without(headers, b"cookie")
    return [*rest, (b"cookie", b"; ".join(kept))] if kept else rest


def _cookies(headers: RawHeaders) -> list[bytes]:
    lines = [value for name, value in headers if name == b"cookie"]
    return [part.strip() for line in lines for part in line.split(b";") if part.strip()]


def _for_this_host_alone(set_cookie: bytes) -> bytes:
    parts = set_cookie.split(b";")
    return b";".join(part for part in parts if part.partition(b"=")[0].strip().lower() != b"domain")


def _without(headers: RawHeaders, unwanted: bytes) -> RawHeaders:
    return [(name, value) for name, value in headers if name != unwanted]


def _cookie_name(settings: Settings) -> str:
    # Browsers take a name with this prefix from https alone, for one host alone: no other host can plant one.
    return f"__Host-{_COOKIE}" if _is_https(settings) else _COOKIE


def _is_https(settings: Settings) -> bool:
    return settings.domain is not None and settings.domain_scheme == "https"


def _seal(parts: GatewayContext, sandbox_id: str, organization_id: int, ends: int) -> str:
    text = f"{sandbox_id} {organization_id} {ends}".encode()
    return hmac.digest(parts.tokens.derive("port cookie"), text, hashlib.sha256).hex()
