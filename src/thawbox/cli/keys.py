"""``thaw keys``: creates, lists and revokes API keys, on the server's own machine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from thawbox.settings import Settings, load
from thawbox.store import keys as key_store
from thawbox.store import organizations
from thawbox.store.database import open_database

from .failure import Commands, Failure
from .options import json_option, state_option
from .terminal import ago, console, print_json, print_table

DEFAULT_ORGANIZATION = "default"
_NAME_MAX = 200


@click.group(cls=Commands, short_help="Create, list and revoke API keys.")
def keys() -> None:
    """Create, list and revoke API keys. Works on the server's database, so run it as root on the server's machine.

    \b
    Examples:
      export THAWBOX_API_KEY=$(sudo thaw keys create)
      sudo thaw keys list
    """


@keys.command()
@click.option(
    "--org",
    default=DEFAULT_ORGANIZATION,
    show_default=True,
    metavar="NAME",
    help="The organisation that the key belongs to.",
)
@state_option
def create(org: str, state: Path | None) -> None:
    """Create a key and print it, and nothing else. It cannot be shown again: only its hash is stored.

    If there is no organisation NAME yet, it is created. Organisations do not see each other's templates and sandboxes.

    \b
    Examples:
      export THAWBOX_API_KEY=$(sudo thaw keys create)
      sudo thaw keys create --org research
    """
    name = org.strip()
    if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        raise click.UsageError(f"--org {org!r} should be 1 to {_NAME_MAX} printable characters.")
    click.echo(asyncio.run(create_key(load(state=state), name)))


@keys.command("list")
@state_option
@json_option
def list_keys(state: Path | None, as_json: bool) -> None:
    """List all keys, including revoked ones, without their secrets.

    \b
    Examples:
      sudo thaw keys list
      sudo thaw keys list --json | jq -r '.[].key_id'
    """
    found = asyncio.run(_all_keys(load(state=state)))
    if as_json:
        print_json(found)
    elif not found:
        console(stderr=True).print("No keys yet. Make one: thaw keys create")
    else:
        rows = [
            (key["key_id"], key["organization"], ago(key["created_at"]), key["revoked_at"] or "")
            for key in found
        ]
        print_table(("key id", "organisation", "age", "revoked"), rows)


@keys.command()
@click.argument("key_id")
@state_option
def revoke(key_id: str, state: Path | None) -> None:
    """Revoke the key with this id. It stops working at once. 'thaw keys list' shows the ids.

    \b
    Example:
      sudo thaw keys revoke AbCdEfGhIjKl
    """
    if not asyncio.run(_revoke(load(state=state), key_id)):
        raise Failure(
            f"Key {key_id!r} does not exist or is revoked already. 'thaw keys list' shows all keys."
        )
    click.echo(f"{key_id} revoked")


async def create_key(settings: Settings, organization: str) -> str:
    """A new key of ``organization``, which is created if it does not exist."""
    database = await open_database(settings)
    try:
        async with database.write() as connection:
            owner = await organizations.get_or_create(connection, organization)
            return await key_store.create(connection, owner.id)
    finally:
        await database.close()


async def key_works(settings: Settings, key: str) -> bool:
    """Whether the server with these settings accepts ``key``."""
    database = await open_database(settings)
    try:
        async with database.read() as connection:
            return await key_store.verify(connection, key) is not None
    finally:
        await database.close()


async def _all_keys(settings: Settings) -> list[dict[str, Any]]:
    database = await open_database(settings)
    try:
        async with database.read() as connection:
            owners = {owner.id: owner.name for owner in await organizations.list_all(connection)}
            rows = await key_store.list_all(connection)
    finally:
        await database.close()
    return [
        {
            "key_id": row.key_id,
            "organization": owners.get(row.organization_id, ""),
            "live": row.live,
            "created_at": _time(row.created_at),
            "revoked_at": _time(row.revoked_at),
        }
        for row in rows
    ]


async def _revoke(settings: Settings, key_id: str) -> bool:
    database = await open_database(settings)
    try:
        async with database.write() as connection:
            return await key_store.revoke(connection, key_id)
    finally:
        await database.close()


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
