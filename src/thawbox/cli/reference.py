"""The reference pages of docs/ that come from the code: settings and commands.

``python -m thawbox.cli.reference docs/reference`` writes them; a test says when they are stale.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from thawbox import settings
from thawbox.settings import Settings

from .main import cli

_GENERATED = "<!-- Made by: .venv/bin/python -m thawbox.cli.reference docs/reference -->\n"


def pages() -> dict[str, str]:
    """File name -> content."""
    return {"settings.md": settings_page(), "cli.md": cli_page()}


def settings_page() -> str:
    """Every setting: its variable, key, type, default and meaning."""
    lines = [
        "# Settings",
        "",
        _GENERATED,
        "A setting comes from the first of these that has it: a flag of `thaw serve`, an environment",
        "variable that is not empty, the TOML file that `THAWBOX_CONFIG` names, the default. The variable is",
        "`THAWBOX_` and the key in capitals; lists and tables are written as JSON there. Unknown keys in the file are",
        "an error.",
        "",
    ]
    for section, fields in _sections():
        lines += [f"## {section}", "", "| key | variable | default | meaning |", "|---|---|---|---|"]
        for name, meaning in fields:
            default = _default(Settings.model_fields[name].get_default(call_default_factory=True))
            lines.append(f"| `{name}` | `THAWBOX_{name.upper()}` | {default} | {meaning} |")
        lines.append("")
    lines += [
        "## Clients",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
        "| `THAWBOX_URL` | `http://127.0.0.1:7070` | The server of `thaw build`, `run`, `templates`, `ps`, `rm`. |",
        "| `THAWBOX_API_KEY` | the server's local key, on its own machine | The key that they log in with. |",
        "| `THAWBOX_CONFIG` | none | The TOML file with settings. |",
    ]
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The section comments of the class, each with its fields and their docstrings, in the order of the source."""
    source = inspect.getsource(settings)
    tree = ast.parse(source)
    lines = source.splitlines()
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    title, fields = "Settings", list[tuple[str, str]]()
    for position, node in enumerate(body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        above = lines[node.lineno - 2].strip()
        if above.startswith("# "):
            if fields:
                yield title, fields
            title, fields = above[2:].rstrip("."), []
        following = body[position + 1] if position + 1 < len(body) else None
        meaning = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            meaning = " ".join(str(following.value.value).split()).replace("``", "`").replace("|", "\\|")
        fields.append((node.target.id, meaning))
    yield title, fields


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple | list | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def cli_page() -> str:
    """Every command's help, as the terminal shows it."""
    lines = [
        "# The `thaw` command",
        "",
        _GENERATED,
        "Exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C; `thaw run` passes the command's own status",
        "on. Errors are one sentence on standard error. `--json` prints one JSON document on standard output.",
        "",
        'Completion for the shell: `eval "$(_THAW_COMPLETE=bash_source thaw)"` in `~/.bashrc`, `zsh_source` in',
        "`~/.zshrc`, and for fish `_THAW_COMPLETE=fish_source thaw > ~/.config/fish/completions/thaw.fish`.",
        "",
    ]
    for path, command in commands(cli, ("thaw",)):
        context = click.Context(
            command,
            info_name=" ".join(path),
            terminal_width=100,
            help_option_names=cli.context_settings["help_option_names"],
        )
        lines += [f"## {' '.join(path)}", "", "```", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines)


def commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """``group`` and every command below it, each with the words that call it."""
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(command, (*path, name))


def main(folder: str) -> None:
    """Write the pages into ``folder``."""
    for name, content in pages().items():
        (Path(folder) / name).write_text(content)


if __name__ == "__main__":
    main(sys.argv[1])
