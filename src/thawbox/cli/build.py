"""``thaw build``: sends a recipe to the server and follows the build."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from thawbox.store.enums import TemplateStatus

from .client import ApiError, Server, connect
from .failure import FAILED, INTERRUPTED, Failure
from .follow import follow
from .options import json_option, pairs
from .recipes import Source, read_source
from .terminal import console, duration, harmless, print_json
from .uploads import upload_copies


@click.command(short_help="Build a template from a recipe or a Dockerfile.")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@click.option("--name", metavar="N", help="The template's name, instead of the recipe's.")
@click.option(
    "--context",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder that COPY copies from.  [default: FILE's own]",
)
@click.option("--update", is_flag=True, help="Replace the template of this name, if there is one.")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="K=V",
    callback=pairs,
    help="A value for a Dockerfile's ARG. Repeatable.",
)
@json_option
def build(
    file: str,
    name: str | None,
    folder: Path | None,
    update: bool,
    no_cache: bool,
    build_args: dict[str, str],
    as_json: bool,
) -> None:
    """Build a template from FILE and watch until it is ready.

    FILE is a recipe in JSON or YAML, as POST /v1/templates/build takes it, or a Dockerfile with FROM, RUN,
    COPY, ENV, WORKDIR, USER, CMD and ARG; "-" reads standard input. Exit status 0: the template is ready;
    1: it is not. With --json the log goes to standard error, and one JSON object to standard output.

    \b
    Examples:
      thaw build examples/hello.yaml
      thaw build Dockerfile --name web --context . --build-arg VERSION=1.2
      thaw build recipe.json --update --json | jq -r .template_id
    """
    source = read_source(
        file,
        _read(file),
        name=name,
        update=update,
        no_cache=no_cache,
        build_args=build_args,
    )
    out = console(stderr=as_json)
    for warning in source.warnings:
        console(stderr=True).print(Text(f"warning: {warning}", style="yellow"))
    context = folder or (Path.cwd() if file == "-" else Path(file).resolve().parent)
    with connect() as server:
        result = build_template(server, source, context, out)
    if as_json:
        print_json(result)
    elif result["status"] == TemplateStatus.ACTIVE:
        took = duration(result["seconds"])
        out.print(
            Text(f"{result['name']} is ready: template {result['template_id']}, {took}", style="bold green")
        )
    if result["status"] != TemplateStatus.ACTIVE:
        if as_json:
            raise click.exceptions.Exit(FAILED)
        # The rest of the message is the end of the log, which was printed already.
        reason = harmless(str(result["error_message"] or "no reason given").splitlines()[0])
        raise Failure(f"{result['name']} failed after {duration(result['seconds'])}: {reason}")


def build_template(server: Server, source: Source, context: Path, out: Console) -> dict[str, Any]:
    """Upload the files, send the request, follow the build. Returns the result as ``thaw build --json`` prints it.

    Raises:
        Failure: the server refused the request, or a file for COPY is missing.
        click.exceptions.Exit: the user pressed Ctrl-C; the build goes on at the server.
    """
    began = time.monotonic()
    body = upload_copies(server, source.body, context)
    try:
        accepted = server.call("POST", "/v1/templates/build", json=body)
    except ApiError as error:
        if error.code == "ALREADY_EXISTS":
            raise Failure(f"{error.message} Replace it with --update, or choose another --name.") from error
        raise
    try:
        with progress_line(out, began) as on_status:
            status = follow(
                server,
                accepted["build_id"],
                on_lines=lambda lines: print_log(out, lines),
                on_status=on_status,
            )
    except KeyboardInterrupt:
        _print_how_to_cancel(source.name, update=bool(body.get("update")))
        raise click.exceptions.Exit(INTERRUPTED) from None
    ready = status["status"] in (TemplateStatus.ACTIVE, "success", "completed")
    return {
        "name": source.name,
        "template_id": accepted["template_id"],
        "build_id": accepted["build_id"],
        "status": TemplateStatus.ACTIVE if ready else TemplateStatus.FAILED,
        "seconds": round(time.monotonic() - began, 3),
        "error_message": status.get("error_message"),
    }


def print_log(out: Console, lines: list[str]) -> None:
    """Print lines of a build's log. Output of steps is not trusted, so control sequences are removed."""
    for line in lines:
        style = ""
        if "❌" in line or "ERROR" in line:
            style = "red"
        elif "CACHED" in line:
            style = "cyan"
        elif line.startswith(("Step ", "[")):
            style = "bold"
        out.print(Text(harmless(line), style=style))


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8 text (byte {error.start}).") from error


@contextmanager
def progress_line(out: Console, began: float) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A status line below the log, with the step, the percentage and the time since ``began``; only on a terminal.

    It yields the function that updates the line from a status of the build.
    """
    if not out.is_terminal:
        yield lambda _status: None
        return
    with out.status("queued", spinner="dots") as line:

        def show(status: dict[str, Any]) -> None:
            step = harmless(str(status.get("current_step") or status["status"]))
            elapsed = duration(time.monotonic() - began)
            line.update(
                Text(f"{step} · {status['progress']} % · {elapsed}", no_wrap=True, overflow="ellipsis")
            )

        yield show


def _print_how_to_cancel(name: str, *, update: bool) -> None:
    also = " (and the version that is active now)" if update else ""
    click.echo(
        f"\nThe build of {name} goes on at the server; 'thaw templates {name}' shows its status.\n"
        f"Cancel it with: thaw templates {name} --delete{also}",
        err=True,
    )
