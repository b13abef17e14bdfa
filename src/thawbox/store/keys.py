"""API keys: ``hopx_live_<12 letters and digits>.<43 letters and digits>``.

Why letters and digits alone: docs/reference/compatibility/conventions.md#api-keys.

Only a hash of a key is stored. The part before the dot finds the row; the hash is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass

import sqlalchemy as sa

from thawbox import ids

from .connection import Connection
from .rows import value
from .schema import api_keys

_KEY = re.compile(r"hopx_(?:live|test)_([A-Za-z0-9]{12})\.[A-Za-z0-9]{43}", re.ASCII)

# Built once, because every request runs it.
_BY_ID = sa.select(api_keys).where(api_keys.c.key_id == sa.bindparam("key_id"))


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key, without its secret."""

    key_id: str
    organization_id: int
    secret_sha256: str
    live: bool
    created_at: float
    revoked_at: float | None


async def create(c: Connection, organization_id: int, *, live: bool = True) -> str:
    """Create a key for this organisation and return it. The whole key cannot be read again later."""
    key_id = ids.alnum(12)
    key = f"hopx_{'live' if live else 'test'}_{key_id}.{ids.alnum(43)}"
    await c.execute(
        sa.insert(api_keys).values(
            key_id=key_id,
            organization_id=organization_id,
            secret_sha256=_digest(key),
            live=live,
            created_at=time.time(),
        )
    )
    return key


async def verify(c: Connection, key: str) -> KeyRow | None:
    """The row of a valid key; None if it is unknown, forged or revoked."""
    shape = _KEY.fullmatch(key)
    if shape is None:
        return None
    row = (await c.execute(_BY_ID, {"key_id": shape[1]})).one_or_none()
    if row is None:
        return None
    found = value(KeyRow, row)
    if not hmac.compare_digest(found.secret_sha256, _digest(key)) or found.revoked_at is not None:
        return None
    return found


async def revoke(c: Connection, key_id: str) -> bool:
    """Revoke a key at once; False if there is no such key or it was revoked before."""
    statement = (
        sa.update(api_keys)
        .where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=time.time())
    )
    return (await c.execute(statement)).rowcount == 1


async def list_all(c: Connection, organization_id: int | None = None) -> list[KeyRow]:
    """All keys, or those of one organisation, oldest first, including revoked ones."""
    statement = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
    if organization_id is not None:
        statement = statement.where(api_keys.c.organization_id == organization_id)
    return [value(KeyRow, row) for row in await c.execute(statement)]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
