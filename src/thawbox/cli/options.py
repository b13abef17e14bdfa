"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

state_option: Callable[[Any], Any] = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The server's state folder.  [default: THAWBOX_STATE, else /var/lib/thawbox]",
)

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs."
)


def pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback for repeated ``K=V`` options: values by name. If a name occurs twice, the last value counts.

    Raises:
        click.BadParameter: a value has no name or no "=".
    """
    found = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r} should be NAME=VALUE", ctx=context, param=parameter)
        found[name] = content
    return found
