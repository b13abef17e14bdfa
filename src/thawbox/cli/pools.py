"""``thaw pools``: lists the sandboxes that wait ready."""

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
    """List how many sandboxes of each template wait ready for requests, and how often there were enough of them.

    READY sandboxes are thawed already, so a request gets one in milliseconds. SHELLS are containers without memory;
    they serve when no ready sandbox is left. Both columns show how many there are, and how many there should be: that
    depends on how often the template was requested lately (DEMAND). HITS are requests that found a ready sandbox,
    MISSES those that found none. The settings are THAWBOX_POOL_MIN, _MAX, _SHELLS, _MEMORY_MB and _HALF_LIFE_S. Run
    this as root on the server's own machine, while the server runs.

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
