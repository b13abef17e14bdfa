"""The reference pages in docs/ that are made from the code: settings, commands, error codes, metrics.

``python -m thawbox.cli.reference docs/reference`` writes them. A test fails when they are stale.
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
from prometheus_client.metrics import MetricWrapperBase

from thawbox import errors, metrics, settings
from thawbox.errors import ThawboxError
from thawbox.settings import Settings

from .main import cli

_GENERATED = "<!-- Made by: .venv/bin/python -m thawbox.cli.reference docs/reference -->\n"


def pages() -> dict[str, str]:
    """The content of each page by its file name, as Markdown."""
    return {
        "settings.md": settings_page(),
        "cli.md": cli_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
    }


def settings_page() -> str:
    """Every setting: its key, variable, default and meaning."""
    lines = [
        "# Settings",
        "",
        _GENERATED,
        "The server takes each setting from the first of these places that has it: a flag of `thaw serve`, an",
        "environment variable that is not empty, the TOML file that `THAWBOX_CONFIG` names, the default. The name of",
        "the variable is `THAWBOX_` and the key in capitals. In variables, lists and tables are written as JSON. An",
        "unknown key in the file is an error.",
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
        "| `THAWBOX_URL` | `http://127.0.0.1:7070` | The server that `thaw build`, `run`, `templates` and the other "
        "client commands use. |",
        "| `THAWBOX_API_KEY` | the server's local key, on its own machine | The API key that these commands send. |",
        "| `THAWBOX_CONFIG` | none | The TOML file with settings. |",
    ]
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The section comments of ``Settings``, each with its fields and their docstrings, in the order of the source."""
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
    """The help of every command, as the terminal shows it."""
    lines = [
        "# The `thaw` command",
        "",
        _GENERATED,
        "Exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C. `thaw run` and `thaw exec` return the status of the",
        "command that they ran. Errors are one sentence on standard error. `--json` prints one JSON document on",
        "standard output.",
        "",
        'Shell completion: put `eval "$(_THAW_COMPLETE=bash_source thaw)"` into `~/.bashrc`, or the same with',
        "`zsh_source` into `~/.zshrc`. For fish: `_THAW_COMPLETE=fish_source thaw >",
        "~/.config/fish/completions/thaw.fish`.",
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


def errors_page() -> str:
    """Every error code: its status, title and meaning, by status."""
    lines = [
        "# Error codes",
        "",
        _GENERATED,
        "Every answer of the control plane and the gateway that is not a success has this form:",
        "",
        "```json",
        '{"error": "Template not found", "message": "Template \'web\' does not exist or is not visible to your '
        'organization.",',
        ' "code": "RESOURCE_NOT_FOUND", "request_id": "req_…"}',
        "```",
        "",
        "`message` is one sentence for people. Programs should look at the status and at `code`. `details` (an object)",
        "and `retry_after` (seconds, also the header `Retry-After`) are there where they help. Published clients send",
        "a request again after a 5xx or a 429: [retries](compatibility/conventions.md#retries).",
        "",
        "| status | `code` | `error` | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {status} | `{code}` | {title} | {' Or: '.join(meanings)} |"
        for (status, code, title), meanings in sorted(_error_rows().items())
    ]
    return "\n".join(lines) + "\n"


def _error_rows() -> dict[tuple[int, str, str], list[str]]:
    """(status, code, title) -> the meanings of the classes that declare one of the three themselves."""
    rows: dict[tuple[int, str, str], list[str]] = {}
    for found in vars(errors).values():
        if not (inspect.isclass(found) and issubclass(found, ThawboxError)) or found is ThawboxError:
            continue
        meanings = rows.setdefault((found.status, found.code, found.title), [])
        if not meanings or {"status", "code", "title"} & vars(found).keys():
            paragraph = inspect.cleandoc(found.__doc__ or "").split("\n\n")[0]
            meanings.append(" ".join(paragraph.split()).replace("``", "`").replace("|", "\\|"))
    return rows


def metrics_page() -> str:
    """Every metric of the control plane: its name, type, labels and meaning, in the order of the source."""
    lines = [
        "# Metrics",
        "",
        _GENERATED,
        "`GET /metrics` of the control plane shows them in Prometheus' format. A histogram has `_bucket`, `_sum` and",
        "`_count`. Times are in seconds.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for found in vars(metrics).values():
        if isinstance(found, MetricWrapperBase):
            (described,) = found.describe()
            name = described.name + ("_total" if described.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in found._labelnames)
            lines.append(f"| `{name}` | {described.type} | {labels} | {described.documentation} |")
    return "\n".join(lines) + "\n"


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
    """Write all pages into ``folder``, which must exist."""
    for name, content in pages().items():
        (Path(folder) / name).write_text(content)


if __name__ == "__main__":
    main(sys.argv[1])
