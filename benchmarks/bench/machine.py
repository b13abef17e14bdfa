"""What a figure depends on besides our code."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import thawbox
from thawbox.node import cgroups, installed
from thawbox.settings import Settings


def facts(settings: Settings) -> dict[str, Any]:
    """Machine, kernel and runtime, by name."""
    binary = installed.installed_runsc(settings)
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _field("/proc/cpuinfo", "model name"),
        "virtual machine": "hypervisor" in _field("/proc/cpuinfo", "flags").split(),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1e6:.1f} GB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "thawbox": thawbox.__version__,
        "runsc": version.splitlines()[0].removeprefix("runsc version ") if version else "unknown",
        "runsc sha256": installed.digest_of(binary),
        "cgroups": "v2" if cgroups.is_v2() else "v1",
        "file system": _file_system(settings.state),
        "rcu_expedited": _value("/sys/kernel/rcu_expedited"),
        "shmem_enabled": _value("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "load before": load(),
    }


def load() -> str:
    """Load averages; more than about 0.3 before a run says that somebody else was at work."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _value(path: str) -> str:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return "unknown"
    chosen = text.partition("[")[2].partition("]")[0]
    return chosen or text


def _file_system(folder: Path) -> str:
    shown = subprocess.run(
        ["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--target", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    return " ".join(shown.stdout.split()) or "unknown"
