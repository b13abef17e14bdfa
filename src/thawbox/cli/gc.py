"""``thaw gc``: removes files that nothing needs any more."""

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

    Also removed: guest agents of earlier releases, and records of builds that ended more than 30 days ago, except each
    template's last one.

    Works on the state folder of this machine, whether or not the server runs. Prints what it removed and how much
    disk space it freed.

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
    """Collect garbage. Returns ``{"removed": {kind: count}, "bytes": freed}``."""
    from thawbox import server

    return asdict(asyncio.run(server.collect_garbage(settings)))
