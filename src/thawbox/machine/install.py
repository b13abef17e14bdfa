"""Getting the runtime onto the machine: runsc, the agent's image, and the proof that they work (``thaw setup``).

runsc comes from the first source that is configured: a path that the operator names (``THAWBOX_RUNSC``); a released
archive with its checksum (``THAWBOX_RUNSC_URL`` and ``THAWBOX_RUNSC_SHA512``); a build of the pinned Go module in
``runsc/`` beside this file. What is built is kept for all state folders of the machine (``store``).
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from thawbox.errors import RuntimeFault
from thawbox.node.installed import agent_image
from thawbox.settings import Settings
from thawbox.state import Layout

from .runsc_build import build_runsc, sources
from .runsc_release import download_runsc
from .selftest import run_selftest
from .store import Store, is_private, link_or_copy, open_store

Report = Callable[[str], None]
"""Gets a line that says what is being done, without an end of line."""


def require_machine() -> None:
    """Refuse a machine on which set-up cannot work.

    Raises:
        RuntimeFault: the user is not root, or the processor is not x86_64.
    """
    if os.geteuid() != 0:
        raise RuntimeFault("set-up must run as root, because it tries real sandboxes: sudo thaw setup")
    if platform.machine() != "x86_64":
        raise RuntimeFault(
            f"this machine is {platform.machine()}; only x86_64 works, because gVisor restores memory snapshots "
            "reliably only there"
        )


def install(settings: Settings, report: Report) -> None:
    """Install what is missing, one set-up of this machine at a time, and report what is being done.

    Raises:
        RuntimeFault: the configured source of runsc failed, or the self-test did.
    """
    layout = Layout(settings.state.absolute())
    layout.make()
    store = open_store(settings)
    store.make()
    with store.locked(lambda: report("waiting for another set-up to finish")):
        _step(report, "runsc", lambda: _install_runsc(settings, layout, store, report))
        _step(report, "agent image", lambda: str(agent_image(settings)))
        _step(report, "self-test", lambda: asyncio.run(run_selftest(settings)))


def _step(report: Report, name: str, do: Callable[[], str]) -> None:
    began = time.monotonic()
    report(f"{name} …")
    result = do()
    report(f"{name}: {result} ({time.monotonic() - began:.1f} s)")


def _install_runsc(settings: Settings, layout: Layout, store: Store, report: Report) -> str:
    if settings.runsc is not None:
        if not os.access(settings.runsc, os.X_OK):
            raise RuntimeFault(f"THAWBOX_RUNSC={settings.runsc} is not a program")
        return f"{settings.runsc}, as configured"
    target = layout.runtime / "runsc"
    stamp = layout.runtime / "runsc.from"
    url, sha512 = os.environ.get("THAWBOX_RUNSC_URL"), os.environ.get("THAWBOX_RUNSC_SHA512", "")
    wanted = f"{url} {sha512}" if url else sources()
    if target.exists() and stamp.exists() and stamp.read_text() == wanted:
        if not url:
            _offer(store, wanted, target)
        return f"{target} is up to date"
    if url:
        download_runsc(url, sha512, layout, target)
        stamp.write_text(wanted)
        return str(target)
    built = store.find_runsc(wanted)
    remark = "" if built is None else ", built before on this machine"
    stamp.unlink(missing_ok=True)
    link_or_copy(built or asyncio.run(build_runsc(store, report)), target)
    stamp.write_text(wanted)
    return f"{target}{remark}"


def _offer(store: Store, wanted: str, built: Path) -> None:
    """Keep what this state folder has for the others too, if the store has lost it."""
    if store.find_runsc(wanted) is None and is_private(built):
        store.keep_runsc(wanted, built)
