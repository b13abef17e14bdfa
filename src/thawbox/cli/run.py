"""``thaw run``: runs one command in a new sandbox."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from . import attach
from .client import Server, connect
from .failure import Failure
from .options import pairs
from .piped import run_piped
from .sandboxes import delete_sandbox

_GRACE_S = 60
"""How much longer than the command the sandbox may live. It ends so if this program dies and cannot delete it."""


@click.command(
    short_help="Run a command in a fresh sandbox.", context_settings={"allow_interspersed_args": True}
)
@click.argument("template")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the sandbox running and print its id: with CMD to standard error, without CMD to standard output.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="K=V",
    callback=pairs,
    help="An environment variable in the sandbox. Repeatable.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=3600,
    show_default=True,
    metavar="S",
    help="Seconds until the command is stopped, with exit status 124.",
)
def run(template: str, command: tuple[str, ...], keep: bool, variables: dict[str, str], timeout: int) -> None:
    """Run CMD in a fresh sandbox of TEMPLATE (a name or an id), then delete the sandbox.

    If standard input and output are a terminal, CMD gets a terminal of its own, and every key is sent to it. Otherwise
    standard input, output and error are passed through byte for byte as they come, and Ctrl-C ends CMD. The exit
    status is that of CMD. Without CMD, piped input is run as a shell script; with --keep the sandbox is only started.

    \b
    Examples:
      thaw run hello -- python3 -c 'print(6 * 7)'
      thaw run hello -- bash
      echo 'SELECT 1;' | thaw run tools -- sqlite3
      thaw run hello --env DEBUG=1 --timeout 60 -- ./test.sh
      id=$(thaw run hello --keep)
    """
    piped = not sys.stdin.isatty()
    if not command and not keep:
        if not piped:
            raise click.UsageError("Give a command after --, for example: thaw run TEMPLATE -- ls -l /")
        command = ("/bin/sh",)
    with _termination_as_exit(), connect() as server:
        lifetime = None if keep else timeout + _GRACE_S
        sandbox = create(server, template, variables, lifetime)
        try:
            status = _run_in(sandbox, command, piped, timeout) if command else 0
        finally:
            if not keep:
                _delete(server, str(sandbox["id"]))
    if keep:
        # Without a command the id is the result. With one, the id must not mix with the output of the command.
        click.echo(sandbox["id"], err=bool(command))
    sys.exit(status)


def create(server: Server, template: str, variables: dict[str, str], lifetime: int | None) -> dict[str, Any]:
    """POST /v1/sandboxes, with a ``lifetime`` in seconds (None: for ever). Returns the record of the sandbox.

    After Ctrl-C this waits for the answer and deletes the sandbox; after a second Ctrl-C it does not.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
        Failure: the server refused, or does not answer.
    """
    body: dict[str, Any] = {"template_name": template, "env_vars": variables}
    if lifetime is not None:
        body["timeout_seconds"] = lifetime
    with _interrupt_deferred() as interrupted:
        sandbox = server.create_sandbox(body)
    if interrupted.is_set():
        _delete(server, str(sandbox["id"]))
        raise KeyboardInterrupt
    return sandbox


def _run_in(sandbox: dict[str, Any], command: tuple[str, ...], piped: bool, timeout: int) -> int:
    if attach.possible():
        return attach.attach(sandbox, command, {})
    return run_piped(sandbox, command, stdin=piped, timeout_s=timeout)


def _delete(server: Server, sandbox: str) -> None:
    try:
        delete_sandbox(server, sandbox)
    except Failure as error:  # only a warning: the exit status is that of the command
        click.echo(f"thaw: sandbox {sandbox} was not deleted: {error.message}", err=True)


@contextmanager
def _interrupt_deferred() -> Iterator[threading.Event]:
    seen = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _termination_as_exit() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, so that the sandbox is deleted as after Ctrl-C."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(ValueError):
                signal.signal(number, handler)
