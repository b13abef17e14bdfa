"""Signed upload URLs. Anybody who has one can upload exactly the announced bytes for an hour, without a key."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from thawbox.errors import Forbidden
from thawbox.sandboxes.tokens import TokenSigner

LIFETIME_S = 3600
UPLOAD_PREFIX = "/v1/uploads/"
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one URL allows."""

    file_id: str
    size: int
    sha256: str
    """Of the bytes, in hex; empty if the client did not announce it."""
    expires: int
    """Seconds since 1970."""


def sign(tokens: TokenSigner, file_id: str, size: int, sha256: str = "") -> tuple[str, Grant]:
    """A signed URL (path and query only) for a PUT of ``size`` bytes, and what it allows."""
    grant = Grant(file_id=file_id, size=size, sha256=sha256, expires=int(time.time()) + LIFETIME_S)
    query = {"size": grant.size, "expires": grant.expires}
    if sha256:
        query |= {"sha256": sha256}  # type: ignore[dict-item]
    return f"{UPLOAD_PREFIX}{file_id}?{urlencode(query)}&signature={_signature(tokens, grant)}", grant


def verify(
    tokens: TokenSigner, file_id: str, *, size: str, expires: str, sha256: str, signature: str
) -> Grant:
    """What the URL with these parameters allows.

    Raises:
        Forbidden: the URL is forged or has expired.
    """
    if not (_NUMBER.fullmatch(size) and _NUMBER.fullmatch(expires)):
        raise Forbidden("This server did not issue the upload URL: request a new one.")
    grant = Grant(file_id=file_id, size=int(size), sha256=sha256, expires=int(expires))
    if not hmac.compare_digest(_signature(tokens, grant).encode(), signature.encode("utf-8", "replace")):
        raise Forbidden("This server did not issue the upload URL: request a new one.")
    if grant.expires <= time.time():
        raise Forbidden("The upload URL has expired: request a new one.")
    return grant


def _signature(tokens: TokenSigner, grant: Grant) -> str:
    text = f"{grant.file_id}\n{grant.size}\n{grant.sha256}\n{grant.expires}"
    return hmac.new(tokens.derive("upload url"), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
