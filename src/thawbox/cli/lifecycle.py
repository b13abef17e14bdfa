"""``thaw pause|resume|stop|start|fork|snapshot``: changes the state of sandboxes, and copies them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from .client import ApiError, connect
from .failure import Failure
from .options import json_option, pairs
from .terminal import print_json

_ids = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.command(short_help="Pause sandboxes.")
@_ids
def pause(ids: tuple[str, ...]) -> None:
    """Pause sandboxes: all their programs stop where they are. Prints the id of each paused sandbox. Their timeouts
    keep running.

    \b
    Examples:
      thaw pause 1763291715051artmzuqw
    """
    _each(ids, "pause")


@click.command(short_help="Resume paused sandboxes.")
@_ids
def resume(ids: tuple[str, ...]) -> None:
    """Resume paused sandboxes: their programs go on where they were. Prints the id of each running sandbox.

    \b
    Examples:
      thaw resume 1763291715051artmzuqw
    """
    _each(ids, "resume")


@click.command(short_help="End the programs of sandboxes, keep their files.")
@_ids
def stop(ids: tuple[str, ...]) -> None:
    """End the programs of sandboxes and keep their files. Prints the id of each stopped sandbox.

    \b
    Examples:
      thaw stop 1763291715051artmzuqw
    """
    _each(ids, "stop")


@click.command(short_help="Start stopped sandboxes.")
@_ids
def start(ids: tuple[str, ...]) -> None:
    """Start stopped sandboxes with the files that they had; the start command of their template runs again. Prints the
    id of each running sandbox.

    \b
    Examples:
      thaw start 1763291715051artmzuqw
    """
    _each(ids, "start")


@click.command(short_help="Copy a sandbox as it runs.")
@click.argument("sandbox", metavar="ID")
@click.option(
    "--count",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    metavar="N",
    help="The number of copies.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="K=V",
    callback=pairs,
    help="An environment variable for the copies, added to those of the source. Repeatable.",
)
@click.option(
    "--timeout", type=click.IntRange(1), metavar="S", help="Seconds until the copies end.  [default: never]"
)
@json_option
def fork(sandbox: str, count: int, variables: dict[str, str], timeout: int | None, as_json: bool) -> None:
    """Copy a sandbox with its memory, files and programs. The copies run on by themselves. Prints their ids.

    \b
    Examples:
      thaw fork 1763291715051artmzuqw --count 4 --env SEED=7
    """
    body: dict[str, Any] = {"count": count, "env_vars": variables, "timeout_seconds": timeout}
    with connect() as server:
        made = server.call("POST", _path(sandbox, "fork"), json=body)["data"]
    if as_json:
        print_json(made)
    else:
        for copy in made:
            click.echo(copy["id"])


@click.command(short_help="Save a sandbox as a template.")
@click.argument("sandbox", metavar="ID")
@click.argument("name")
@click.option("--description", default="", metavar="TEXT", help="What the template is for.")
@json_option
def snapshot(sandbox: str, name: str, description: str, as_json: bool) -> None:
    """Save a sandbox, with the memory and files that it has now, as the template NAME.

    The template also holds what the programs have in memory, including secrets.

    \b
    Examples:
      thaw snapshot 1763291715051artmzuqw warmed-up
    """
    with connect() as server:
        made = server.call(
            "POST", _path(sandbox, "snapshot"), json={"name": name, "description": description}
        )
    if as_json:
        print_json(made)
    else:
        click.echo(made["name"])


def _each(ids: tuple[str, ...], verb: str) -> None:
    refused = []
    with connect() as server:
        for sandbox in ids:
            try:
                server.call("POST", _path(sandbox, verb))
            except ApiError as error:
                refused.append(f"{sandbox}: {error.message}")
            else:
                click.echo(sandbox)
    if refused:
        raise Failure(f"Not done ({verb}): " + " ".join(refused))


def _path(sandbox: str, verb: str) -> str:
    return f"/v1/sandboxes/{quote(sandbox, safe='')}/{verb}"
