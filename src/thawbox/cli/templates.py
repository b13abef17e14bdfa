"""``thaw templates``: lists, shows and deletes templates."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from .client import Server, connect
from .options import json_option
from .terminal import ago, console, harmless, print_json, print_table, status_text


@click.command(short_help="List templates, show one, or delete one.")
@click.argument("name", required=False)
@click.option(
    "--delete", is_flag=True, help="Delete template NAME. A build of it that is running is cancelled."
)
@json_option
def templates(name: str | None, delete: bool, as_json: bool) -> None:
    """List the templates that you can use, or show the one called NAME (a name or an id).

    \b
    Examples:
      thaw templates
      thaw templates hello --json | jq .default_resources
      thaw templates hello --delete
    """
    if delete and name is None:
        raise click.UsageError("--delete needs the NAME of the template to delete.")
    with connect() as server:
        if delete:
            assert name is not None
            delete_template(server, name)
            click.echo(f"{name} deleted")
        elif name is not None:
            _show(server.call("GET", path_of(name)), as_json)
        else:
            _list(server.call("GET", "/v1/templates")["data"], as_json)


def path_of(name: str) -> str:
    """The URL path of one template. ``name`` is quoted, so it is one segment of the path whatever it contains."""
    return f"/v1/templates/{quote(name, safe='')}"


def delete_template(server: Server, name: str) -> None:
    """Delete the template with this name or id.

    The published interface deletes by id only, so the id is read first.

    Raises:
        ApiError: the template does not exist, is in use, or may not be deleted.
    """
    found = server.call("GET", path_of(name))
    server.call("DELETE", path_of(str(found["id"])))


def _list(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if not found:
        console(stderr=True).print("No templates yet. Build one: thaw build examples/hello.yaml")
        return
    rows = [
        (
            str(item["name"]),
            str(item["id"]),
            status_text(str(item.get("status", ""))),
            _resources(item.get("default_resources") or {}),
            str(item.get("category") or ""),
            ago(item.get("updated_at")),
        )
        for item in found
    ]
    print_table(("name", "id", "status", "resources", "category", "updated"), rows)


def _resources(resources: dict[str, Any]) -> str:
    if not resources:
        return ""
    return f"{resources.get('vcpu')} vCPU, {resources.get('memory_mb')} MB, {resources.get('disk_gb')} GB"


def _show(item: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(item)
        return
    out = console()
    facts = {
        "name": item["name"],
        "id": item["id"],
        "status": item.get("status"),
        "error": item.get("error_message"),
        "description": item.get("description"),
        "category": item.get("category"),
        "language": item.get("language"),
        "resources": _resources(item.get("default_resources") or {}),
        "features": ", ".join(item.get("features") or ()),
        "created": item.get("created_at"),
        "updated": item.get("updated_at"),
    }
    for label, value in facts.items():
        if value not in (None, ""):
            text = "\n".join(harmless(line) for line in str(value).splitlines())
            out.print(f"{label + ':':<13}{text}", markup=False)
