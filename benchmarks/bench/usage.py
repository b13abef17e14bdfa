"""What a run takes of the machine, and what the server holds."""

from __future__ import annotations

import os
import time
from pathlib import Path

from thawbox.node import cgroups, netns, slots

from .server import Server

_SETTLE_S = 10
_POLL_S = 0.05

Usage = dict[str, float]
"""what -> how much"""


def cpu_s() -> float:
    """User and system time of the whole machine since its start, in seconds, nice and interrupts included."""
    fields = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def of_server(server: Server) -> Usage:
    """Memory (MB), file descriptors, and what of it is on the machine: namespaces, cgroups, processes, files.

    Free network namespaces are kept for the next sandboxes, so their number is that of the most at once.
    """
    process = Path(f"/proc/{server.pid}")
    resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    layout = server.layout
    prefix = slots.claim_network(layout.state, server.settings.guest_network).prefix
    return {
        "server RSS, MB": round(resident, 1),
        "server fds": len(list((process / "fd").iterdir())),
        "network namespaces": sum(1 for name in netns.names() if name.startswith(f"{prefix}-")),
        "cgroups": len(cgroups.names(f"thawbox-{prefix}")),
        "runtime processes": len(_runtimes(server)),
        "files in bundles, upper": sum(
            1 for folder in (layout.bundles, layout.upper) for _ in folder.glob("*")
        ),
        "files in tmp": sum(1 for _ in (layout.state / "tmp").glob("*")),
    }


def settled(server: Server) -> Usage:
    """The same as soon as no container is left, or after ten seconds however it is: what is discarded takes a while."""
    deadline = time.monotonic() + _SETTLE_S
    while _runtimes(server) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return of_server(server)


def _runtimes(server: Server) -> list[int]:
    """Processes that are told of the server's state folder, besides the server."""
    mark = str(server.layout.state).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in line and b"runsc" in line and int(folder.name) not in (server.pid, os.getpid()):
            found.append(int(folder.name))
    return found
