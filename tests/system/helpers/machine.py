"""What a server has on this machine outside of its state folder."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.system.server import Sandbox, Server
from thawbox.node.slots import claim_network
from thawbox.settings import load


def left_on_machine(server: Server) -> dict[str, list[str]]:
    """What there is on this machine, outside of the state folder, that is this server's."""
    prefix = "tb" + hashlib.sha256(str(server.state.resolve()).encode()).hexdigest()[:4]
    groups = (
        Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").is_dir() else Path("/sys/fs/cgroup")
    )
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "processes": [
            entry.name
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and str(server.state) in _command_line(entry)
        ],
        "namespaces": [path.name for path in Path("/run/netns").iterdir() if path.name.startswith(prefix)],
        "devices": [path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(prefix)],
        "mounts": [line for line in mounts if str(server.state) in line or f"/{prefix}-" in line],
        "cgroups": [path.name for path in groups.glob(f"thawbox-{prefix}")],
        "tables": [line for line in tables.splitlines() if prefix in line],
    }


NOTHING: dict[str, list[str]] = {
    key: [] for key in ("processes", "namespaces", "devices", "mounts", "cgroups", "tables")
}


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def cgroup_folders(server: Server, sandbox: Sandbox) -> list[Path]:
    """On this machine; one on v2, one per controller on v1."""
    parent = f"thawbox-{claim_network(server.state, load().guest_network).prefix}"
    root = Path("/sys/fs/cgroup")
    found = [*root.glob(f"{parent}/{sandbox.id}"), *root.glob(f"*/{parent}/{sandbox.id}")]
    assert found
    return found
