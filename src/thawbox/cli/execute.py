"""``thaw exec``: runs a command in a running sandbox."""

from __future__ import annotations

import sys
from urllib.parse import quote

import click

from . import attach
from .client import connect
from .failure import Failure
from .options import pairs
from .piped import run_piped


@click.command("exec", short_help="Run a command in a running sandbox, or a shell.")
@click.argument("sandbox")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input to the command.")
@click.option(
    "-t", "--tty", "terminal", is_flag=True, help="Run the command on a terminal. Needs a terminal here."
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="K=V",
    callback=pairs,
    help="An environment variable of the command. Repeatable.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=3600,
    show_default=True,
    metavar="S",
    help="Without a terminal: seconds until the command is stopped, with exit status 124.",
)
def exec(
    sandbox: str,
    command: tuple[str, ...],
    interactive: bool,
    terminal: bool,
    variables: dict[str, str],
    timeout: int,
) -> None:
    """Run CMD in SANDBOX (an id); without CMD, a login shell.

    If standard input and output are a terminal, -it is the default: CMD gets a terminal of the same size, and every key
    is sent to it. Otherwise output is passed through byte for byte as it comes, and Ctrl-C ends CMD. The exit status is
    that of CMD.

    \b
    Examples:
      thaw exec 1763291715051artmzuqw
      thaw exec 1763291715051artmzuqw -- tail -n 5 /var/log/app.log
      pg_dump db | thaw exec -i 1763291715051artmzuqw -- sh -c 'cat > /workspace/db.sql'
    """
    if not (interactive or terminal):
        interactive = terminal = attach.possible()
    if terminal and not attach.possible():
        raise Failure("-t needs a terminal on standard input and output.")
    if not command and not terminal:
        raise click.UsageError("Give a command after --, for example: thaw exec SANDBOX -- ls -l /")
    path = f"/v1/sandboxes/{quote(sandbox, safe='')}"
    with connect() as server:
        record = server.call("GET", path)
        record["auth_token"] = server.call("POST", f"{path}/token/refresh")["auth_token"]
    if terminal:
        sys.exit(attach.attach(record, command, variables))
    sys.exit(run_piped(record, command, stdin=interactive, timeout_s=timeout, variables=variables))
