"""``thaw doctor``: what this machine lacks."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from thawbox.machine.doctor import check
from thawbox.machine.finding import Finding
from thawbox.settings import load

from .options import json_option, state_option
from .terminal import console, print_json

_MARKS = {True: ("ok", "green"), None: ("advice", "yellow"), False: ("MISSING", "bold red")}


@click.command(short_help="Say what this machine lacks, why it matters and how to mend it.")
@state_option
@json_option
@click.pass_context
def doctor(context: click.Context, state: Path | None, as_json: bool) -> None:
    """Try out everything that Thawbox needs of this machine. Exit status 1 if something necessary is missing.

    Nothing is changed: what the checks make (a network namespace, a mount, a sandbox) they remove.

    \b
    Examples:
      sudo thaw doctor
      sudo thaw doctor --json | jq '.[] | select(.ok == false)'
    """
    findings = asyncio.run(check(load(state=state)))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _show(console(), findings)
    context.exit(1 if any(finding.ok is False for finding in findings) else 0)


def _show(out: Console, findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = _MARKS[finding.ok]
        out.print(Text.assemble((f"{mark:<8}", style), f"{finding.name:<{width}}  {finding.detail}"))
        if finding.ok is not True:
            indent = " " * (width + 10)
            out.print(Text(f"{indent}why: {finding.why}", style="dim"))
            if finding.fix:
                out.print(Text.assemble(indent, ("fix: ", "dim"), finding.fix))
    missing = sum(finding.ok is False for finding in findings)
    advice = sum(finding.ok is None for finding in findings)
    out.print()
    if missing:
        out.print(
            Text(
                f"{missing} missing, {advice} to consider: Thawbox does not work here yet.", style="bold red"
            )
        )
    else:
        out.print(Text(f"Nothing necessary is missing; {advice} to consider.", style="green"))
