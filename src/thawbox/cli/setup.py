"""``thaw setup``: make this machine ready."""

from __future__ import annotations

from pathlib import Path

import click

from thawbox import log
from thawbox.machine import packages
from thawbox.machine.install import install, require_machine
from thawbox.settings import Settings, load

from .failure import Failure
from .options import state_option


@click.command(short_help="Make this machine ready: check packages, build gVisor, prove that it works.")
@click.option("--install-packages", is_flag=True, help="Install missing Debian packages with apt.")
@state_option
def setup(install_packages: bool, state: Path | None) -> None:
    """Make this machine ready: check the system packages, build gVisor's runsc and the guest agent's image, and prove
    with twenty thaws that they work here.

    May be repeated; with nothing to do it takes a second. The first time it downloads gVisor's sources from Go's
    module proxy, and Go itself with pip if the machine has none that is new enough. What is built and proven is kept
    for all state folders of the machine. Next: thaw quickstart.

    \b
    Examples:
      sudo thaw setup --install-packages
      sudo thaw setup --state /data/thawbox
      sudo THAWBOX_RUNSC=/usr/local/bin/runsc thaw setup
    """
    require_machine()
    settings = load(state=state)
    log.configure(settings.model_copy(update={"log_level": "warning"}))  # the steps say what is of interest
    _packages(settings, install_packages)
    install(settings, _report)


def _packages(settings: Settings, wanted: bool) -> None:
    missing = packages.missing_packages(settings)
    if missing and wanted:
        _report(f"system packages: installing {' '.join(missing)}")
        packages.install_packages(missing)
        missing = packages.missing_packages(settings)
    if missing:
        raise Failure(
            f"These system packages are missing: {' '.join(missing)}. Install them with 'sudo thaw setup "
            "--install-packages', or other distributions' counterparts with their own package manager."
        )
    _report(f"system packages: all {len(packages.needed_packages(settings))} are there")


def _report(line: str) -> None:
    click.echo(f"   {line}")
