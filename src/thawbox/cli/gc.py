"""``thaw gc``: remove what nothing needs any more."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from thawbox.settings import Settings, load

from .options import json_option, state_option
from .terminal import print_json, size


@click.command(short_help="Free disk space that nothing needs.")
@state_option
@json_option
def gc(state: Path | None, as_json: bool) -> None:
    """Remove layers, snapshots, uploads and downloads that no template, sandbox or build needs.

    Builds that ended more than 30 days ago go too, except each template's last one, and guest agents of earlier
    releases.

    Works on the state folder of this machine, whether or not the server runs. Prints what it freed.

    \b
    Examples:
      sudo thaw gc
      sudo thaw gc --json
    """
    freed = collect(load(state=state))
    if as_json:
        print_json(freed)
        return
    for what, count in freed["removed"].items():
        click.echo(f"{what}: {count} removed")
    click.echo(f"freed {size(freed['bytes'])}")


def collect(settings: Settings) -> dict[str, Any]:
    """Have the server's code collect; ``{"removed": {kind: count}, "bytes": n}``."""
    from thawbox import server

    return asdict(asyncio.run(server.collect_garbage(settings)))
