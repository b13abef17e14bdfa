"""Exit statuses of commands: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click
import httpx
import pydantic

from thawbox.errors import ThawboxError

FAILED = 1
USAGE = 2
INTERRUPTED = 130


class Failure(click.ClickException):
    """The command failed. The message is one sentence with the remedy."""

    exit_code = FAILED

    def show(self, file: Any = None) -> None:
        """Print the sentence to standard error."""
        click.echo(f"thaw: {self.format_message()}", err=True)


class Commands(click.Group):
    """A click group that ends with the exit statuses of this module, and without a traceback for expected errors."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Like click's ``main``, with the exit statuses of this module."""

        def run() -> Any:
            return super(Commands, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        return exit_with(run) if standalone_mode else run()


def exit_with(action: Callable[[], Any]) -> NoReturn:
    """Run ``action`` and end the program: with its result if that is a number, with the status of its error, or 0."""
    try:
        status = action()
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        sys.exit(INTERRUPTED)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except pydantic.ValidationError as error:
        Failure(settings_sentence(error)).show()
        sys.exit(USAGE)
    except ThawboxError as error:
        Failure(error.message).show()
        sys.exit(FAILED)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        Failure(f"The connection to the server was lost: {reason}. Try again.").show()
        sys.exit(FAILED)
    except OSError as error:
        if (
            error.errno == errno.EPIPE
        ):  # the reader of standard output has closed it, so a message is of no use
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        Failure(os_sentence(error)).show()
        sys.exit(FAILED)
    sys.exit(status if isinstance(status, int) else 0)


def settings_sentence(error: pydantic.ValidationError) -> str:
    """One sentence about the settings that are wrong: what is wrong with them, and where they can come from."""
    problems = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        value = "" if problem["type"] == "extra_forbidden" else f" = {problem['input']!r}"
        problems.append(f"{name}{value}: {problem['msg']}")
    return (
        f"Wrong setting: {'; '.join(problems)}. "
        "Settings come from flags, THAWBOX_* variables and the file that THAWBOX_CONFIG names."
    )


def os_sentence(error: OSError) -> str:
    """An error of the operating system as one sentence, with the file if it has one."""
    what = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        what += "; run this as root"
    return f"{error.filename}: {what}." if error.filename else f"{what}."
