"""Sandbox tokens: JWTs that give access to one sandbox at the gateway.

What clients rely on: docs/reference/compatibility/conventions.md#sandbox-tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jwt
from jwt.types import Options

from thawbox.errors import InvalidToken
from thawbox.settings import Settings
from thawbox.store.sandboxes import SandboxRow

AUDIENCE = "hopx-agent"
KEY_FILE = "token.key"
_KEY_BYTES = 32
_STEP = 0.00001  # s; a float of this size can represent it, so that the ends differ, and the tokens as well


@dataclass(frozen=True, slots=True)
class SandboxToken:
    """A token, and the time (seconds since 1970) from which it is refused."""

    text: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of a valid token."""

    sandbox_id: str
    organization_id: int
    expires_at: float


class TokenSigner:
    """Makes and checks tokens with one secret key (HS256)."""

    def __init__(self, key: bytes, ttl_seconds: int) -> None:
        self._key = key
        self._ttl = ttl_seconds

    def __repr__(self) -> str:
        return "TokenSigner(…)"

    def first(self, sandbox: SandboxRow) -> SandboxToken:
        """The token of a new sandbox. Its end follows from ``created_at``, so it is not stored."""
        return self._sign(sandbox, self._first_end(sandbox))

    def next(self, sandbox: SandboxRow) -> SandboxToken:
        """A token that ends later than all tokens before it. The caller stores its end as ``token_expires_at``.

        Older tokens stay valid until they end.
        """
        newest = max(sandbox.token_expires_at, self._first_end(sandbox))
        return self._sign(sandbox, max(time.time() + self._ttl, newest + _STEP))

    def check(self, text: str) -> TokenClaims:
        """Verify a token and return its claims.

        Raises:
            InvalidToken: it is forged, expired, or not for a sandbox.
        """
        claims = _claims(text, self._key)
        if claims.expires_at <= time.time():
            raise InvalidToken("Token expired: get a new one with POST …/token/refresh.")
        return claims

    def whose(self, text: str) -> str | None:
        """The id of the sandbox that a token is for, even if it has expired; None if this server did not sign it."""
        try:
            return _claims(text, self._key).sandbox_id
        except InvalidToken:
            return None

    def derive(self, purpose: str) -> bytes:
        """A key (32 bytes) for another purpose. The signing key cannot be computed from it."""
        return hmac.digest(self._key, b"thawbox " + purpose.encode(), hashlib.sha256)

    def _first_end(self, sandbox: SandboxRow) -> float:
        return sandbox.created_at + self._ttl

    def _sign(self, sandbox: SandboxRow, expires_at: float) -> SandboxToken:
        claims = {
            "sub": sandbox.id,
            "org": sandbox.organization_id,
            "iat": int(time.time()),
            "exp": math.ceil(expires_at),
            "aud": AUDIENCE,
        }
        return SandboxToken(text=jwt.encode(claims, self._key, algorithm="HS256"), expires_at=expires_at)


@lru_cache(maxsize=512)  # every request has a token, and most tokens were seen before; errors are not cached
def _claims(text: str, key: bytes) -> TokenClaims:
    """The claims of a token, expired or not.

    Raises:
        InvalidToken: this server did not sign it.
    """
    options: Options = {"verify_exp": False, "require": ["sub", "org", "iat", "exp", "aud"]}
    try:
        claims = jwt.decode(text, key, algorithms=["HS256"], audience=AUDIENCE, options=options)
        return TokenClaims(str(claims["sub"]), int(claims["org"]), float(claims["exp"]))
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        raise InvalidToken("The token is not one that this server issued for a sandbox.") from error


def open_signer(settings: Settings) -> TokenSigner:
    """The signer of this installation. The first use makes its key file ``<state>/token.key`` (mode 0600).

    Raises:
        OSError: the file cannot be read or made.
    """
    return TokenSigner(_load_key(settings.state / KEY_FILE), settings.token_ttl_s)


def _load_key(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _make_key(path)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise OSError(
            f"{path} holds {len(key)} bytes instead of {_KEY_BYTES}: delete it to have a new one made."
        )
    return key


def _make_key(path: Path) -> None:
    # Written beside and linked into place: a reader never sees half a key, and the first of two writers wins.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
