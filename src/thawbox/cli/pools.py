"""``thaw pools``: the sandboxes that wait ready."""

from __future__ import annotations

from pathlib import Path

import click

from thawbox.control.client import send_request
from thawbox.settings import load

from .options import json_option, state_option
from .terminal import print_json, print_table


@click.command(short_help="List the sandboxes that wait ready.")
@state_option
@json_option
def pools(state: Path | None, as_json: bool) -> None:
    """List how many sandboxes of each template wait ready to be handed over, and how often that was enough.

    READY ones are thawed already: a request gets one in milliseconds. SHELLS are containers without memory yet, for
    when those run out. Each is shown with how many there should be, which follows how often the template was asked
    for lately (DEMAND); a miss is a request that found none ready. THAWBOX_POOL_MIN, _MAX, _SHELLS, _MEMORY_MB and
    _HALF_LIFE_S are the settings. Needs the running server and root, on the server's own machine.

    \b
    Examples:
      sudo thaw pools
      sudo thaw pools --json
    """
    (answer,) = send_request(load(state=state), {"op": "pools"})
    found = answer["pools"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            pool["template"],
            f"{pool['ready']}/{pool['ready_target']}",
            f"{pool['shells']}/{pool['shells_target']}",
            f"{pool['demand']:.1f}",
            str(pool["hits"]),
            str(pool["misses"]),
            "" if pool["refill_ms"] is None else f"{pool['refill_ms']:.0f} ms",
        )
        for pool in sorted(found, key=lambda pool: (-pool["demand"], pool["template"]))
    ]
    print_table(("template", "ready", "shells", "demand", "hits", "misses", "refill"), rows)
