"""What all that is compared starts from."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 60
_NAMESPACES = ("pid", "mount", "uts", "ipc", "network")


class WorkFailed(Exception):
    """A machine did not come up, or its command failed."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The same files and the same runtime for all."""

    tree: Path
    """a root file system (debian:12), which nobody may change"""
    runsc: Path
    scratch: Path
    """a folder for whatever is written; goes with the comparison"""


def write_bundle(ground: Ground, name: str) -> Path:
    """An OCI bundle whose only program is `true`, on the tree as a read-only root, with a network of its own."""
    bundle = ground.scratch / name
    bundle.mkdir()
    spec: dict[str, Any] = {
        "ociVersion": "1.0.0",
        "root": {"path": str(ground.tree), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "cwd": "/",
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
        },
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": [{"type": one} for one in _NAMESPACES]},
    }
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def new_name() -> str:
    """Of a container."""
    return f"bench-{secrets.token_hex(6)}"


def timed(argv: Sequence[str | Path]) -> float:
    """Run a program to its end; milliseconds.

    Raises:
        WorkFailed: it ended with another status than 0, or not within a minute.
    """
    began = time.perf_counter()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WorkFailed(f"{argv[0]}: no end after {TIMEOUT_S} s") from error
    took = (time.perf_counter() - began) * 1000
    if done.returncode != 0:
        raise WorkFailed(
            f"{argv[0]}: status {done.returncode}: {done.stderr[-200:].decode(errors='replace')}"
        )
    return took
