"""The ``thaw`` command."""

from __future__ import annotations

from importlib import import_module

import click

from thawbox import __version__

from .failure import Commands

_MODULES = {
    "setup": "setup",
    "quickstart": "quickstart",
    "serve": "serve",
    "keys": "keys",
    "build": "build",
    "templates": "templates",
    "catalog": "catalog",
    "run": "run",
    "exec": "execute",
    "cp": "copying",
    "ps": "sandboxes",
    "pause": "lifecycle",
    "resume": "lifecycle",
    "stop": "lifecycle",
    "start": "lifecycle",
    "fork": "lifecycle",
    "snapshot": "lifecycle",
    "rm": "sandboxes",
    "url": "addresses",
    "forward": "addresses",
    "pools": "pools",
    "bench": "bench",
    "gc": "gc",
    "doctor": "doctor",
}
"""The module of this package for each command. The command has the same name in it."""


class Lazy(Commands):
    """Imports each command only when it is used: the database alone takes 0.3 s, and most commands do not need it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order in which a new user needs them."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None if it does not exist."""
        if cmd_name not in _MODULES:
            return None
        found = getattr(import_module(f".{_MODULES[cmd_name]}", __package__), cmd_name)
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Client commands use the server at THAWBOX_URL and the API key in THAWBOX_API_KEY. On the server's own "
    "machine, root needs neither.",
)
@click.version_option(__version__, prog_name="thaw")
def cli() -> None:
    """Build sandbox templates, freeze them into memory snapshots, thaw sandboxes in milliseconds.

    \b
    Examples:
      sudo thaw setup                            make this machine ready
      sudo thaw serve                            start the server here
      thaw build examples/hello.yaml             build a template and watch
      thaw run hello -- python3 -c 'print(1)'    run a command in a fresh sandbox
      thaw doctor                                what this machine lacks
    """


def main() -> None:
    """Entry point of the installed program."""
    cli(prog_name="thaw")


if __name__ == "__main__":
    main()
