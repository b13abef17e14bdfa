"""``thaw ps`` and ``thaw rm``: list and delete sandboxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import click

from .client import ApiError, Server, connect
from .failure import Failure
from .options import json_option
from .terminal import ago, console, print_json, print_table, status_text, until


@click.command(short_help="List sandboxes.")
@json_option
def ps(as_json: bool) -> None:
    """List your sandboxes, newest first.

    \b
    Examples:
      thaw ps
      thaw ps --json | jq -r '.[].id'
    """
    with connect() as server:
        found = list(all_sandboxes(server))
    if as_json:
        print_json(found)
        return
    if not found:
        console(stderr=True).print("No sandboxes. Start one: thaw run TEMPLATE --keep")
        return
    rows = [
        (
            str(item["id"]),
            str(item.get("template_name") or item.get("template_id") or ""),
            status_text(str(item.get("status", ""))),
            ago(item.get("created_at")),
            until(item.get("expires_at")),
            str(item.get("public_host") or ""),
        )
        for item in found
    ]
    print_table(("id", "template", "status", "age", "expires in", "address"), rows)


@click.command(short_help="Delete sandboxes.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Delete all sandboxes of your organisation.")
def rm(ids: tuple[str, ...], everything: bool) -> None:
    """Delete sandboxes, whatever their status is. Prints the id of each deleted sandbox.

    \b
    Examples:
      thaw rm 1763291715051artmzuqw
      thaw rm --all
    """
    if bool(ids) == everything:
        raise click.UsageError("Give either the IDs to delete, or --all.")
    refused = []
    with connect() as server:
        for sandbox in ids or [str(item["id"]) for item in all_sandboxes(server)]:
            try:
                delete_sandbox(server, sandbox)
            except ApiError as error:
                if error.status == 404 and everything:  # it has expired since the list was read
                    continue
                refused.append(f"{sandbox}: {error.message}")
            else:
                click.echo(sandbox)
    if refused:
        raise Failure("Not deleted: " + " ".join(refused))


def delete_sandbox(server: Server, sandbox: str) -> None:
    """DELETE /v1/sandboxes/{id}; ``sandbox`` is the id. Raises as ``Server.call``."""
    server.call("DELETE", f"/v1/sandboxes/{quote(sandbox, safe='')}")


def all_sandboxes(server: Server) -> Iterator[dict[str, Any]]:
    """The records of all sandboxes, from all pages of GET /v1/sandboxes. Raises as ``Server.call``."""
    cursor = None
    while True:
        query = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
        page = server.call("GET", "/v1/sandboxes", params=query)
        yield from page["data"]
        cursor = page.get("next_cursor")
        if not page.get("has_more") or not cursor:
            return
