"""``thaw catalog``: lists the ready-made templates, and builds them on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from thawbox.control.client import send_request
from thawbox.settings import Settings, load
from thawbox.store.enums import TemplateStatus

from .build import print_log, progress_line
from .failure import FAILED, INTERRUPTED, Commands, Failure
from .options import json_option, state_option
from .terminal import console, duration, harmless, print_json, print_table, status_text


@click.group(cls=Commands, invoke_without_command=True, short_help="List ready-made templates, build them.")
@state_option
@json_option
@click.pass_context
def catalog(context: click.Context, state: Path | None, as_json: bool) -> None:
    """List the ready-made templates and which of them are built on this machine.

    A ready-made template that is built is public: every organisation can use it, none can delete it. Run this as root
    on the server's own machine, while the server runs.

    \b
    Examples:
      sudo thaw catalog
      sudo thaw catalog build code-interpreter
    """
    if context.invoked_subcommand is not None:
        return
    (answer,) = send_request(load(state=state), {"op": "catalogue"})
    found = answer["templates"]
    if as_json:
        print_json(found)
        return
    rows = [
        (item["name"], status_text(item["status"]), item["category"], item["description"]) for item in found
    ]
    print_table(("name", "status", "category", "description"), rows)
    for item in found:
        if item["error_message"]:
            reason = harmless(str(item["error_message"]).splitlines()[0])
            console(stderr=True).print(Text(f"{item['name']}: the last build failed: {reason}"))


@catalog.command(short_help="Build ready-made templates.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@state_option
@json_option
def build(names: tuple[str, ...], no_cache: bool, state: Path | None, as_json: bool) -> None:
    """Build the ready-made templates called NAME, one after the other; without a name, all of them.

    Steps that were built before come from the cache, so you can repeat this. If a template fails, its error is printed,
    the others are built all the same, and the exit status is 1.

    \b
    Examples:
      sudo thaw catalog build
      sudo thaw catalog build python nodejs --json
    """
    settings = load(state=state)
    if not names:
        (answer,) = send_request(settings, {"op": "catalogue"})
        names = tuple(item["name"] for item in answer["templates"])
    out = console(stderr=as_json)
    results = [build_entry(settings, name, out, no_cache=no_cache) for name in dict.fromkeys(names)]
    if as_json:
        print_json(results)
    if any(result["status"] != TemplateStatus.ACTIVE for result in results):
        raise click.exceptions.Exit(FAILED)


def build_entry(settings: Settings, name: str, out: Console, *, no_cache: bool = False) -> dict[str, Any]:
    """Build the template ``name`` and print its log to ``out``. Returns the result as ``thaw build --json`` prints it.

    Raises:
        Failure: no server runs, or the server ended during the build.
        ThawboxError: the catalog has no such entry.
        click.exceptions.Exit: the user pressed Ctrl-C; the build goes on at the server.
    """
    began = time.monotonic()
    out.rule(name, align="left")
    end: dict[str, Any] = {}
    try:
        with progress_line(out, began) as on_status:
            for message in send_request(
                settings, {"op": "catalogue_build", "name": name, "no_cache": no_cache}
            ):
                if "log" in message:
                    print_log(out, message["log"])
                elif "status" in message:
                    on_status(message["status"])
                else:
                    end = message["end"]
    except KeyboardInterrupt:
        click.echo(f"\nThe build of {name} goes on at the server; 'thaw catalog' shows its status.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if not end:
        raise Failure(
            f"The server ended while it built {name}. It continues the build when it is started again."
        )
    seconds = round(time.monotonic() - began, 3)
    if end["status"] == TemplateStatus.ACTIVE:
        out.print(Text(f"{name} is ready: template {end['template_id']}, {duration(seconds)}", "bold green"))
    else:
        reason = harmless(str(end["error_message"] or "no reason given").splitlines()[0])
        out.print(Text(f"{name} failed after {duration(seconds)}: {reason}", "bold red"))
    return {
        "name": name,
        "template_id": end["template_id"],
        "status": end["status"],
        "seconds": seconds,
        "error_message": end["error_message"],
    }
