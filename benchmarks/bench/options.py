"""Arguments that all benchmarks take, and what is done with the report."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from . import machine
from .figures import Report, show, write_json

STATE = Path("/var/tmp/thawbox-bench")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the common arguments."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    made.add_argument(
        "--state",
        type=Path,
        default=STATE,
        metavar="DIR",
        help=f"state folder of the server; stays, with its base images (default {STATE})",
    )
    made.add_argument(
        "--url", help="measure the server that runs at URL on --state instead of one of our own"
    )
    return made


def parse(made: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse, and refuse what cannot work. From here on SIGTERM ends the benchmark as Ctrl-C does: tidily."""
    parsed = made.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if os.geteuid() != 0:
        made.error("must run as root, because it measures real sandboxes")
    return parsed


def finish(report: Report, json_file: Path | None) -> None:
    """Print the report, and write it if asked to."""
    report = replace(report, machine={**report.machine, "load after": machine.load()})
    show(report, Console(width=None if os.isatty(1) else 132, highlight=False))
    if json_file is not None:
        write_json(report, json_file)
