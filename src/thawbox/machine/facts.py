"""What of this machine decides whether a runsc that restored snapshots once will do so again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from thawbox.node import cgroups

_CPU_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "flags")


def machine_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Kernel, its build, the processor and the version of cgroups, each as a short string.

    ``kernel`` alone is not enough: distributions give security updates of a kernel the same release and another
    build. The processor counts because gVisor saves and restores its state (``xsave``), and a disk image may wake up
    on another machine. None of these changes while the machine is up.
    """
    name = os.uname()
    return {
        "kernel": name.release,
        "kernel_build": name.version,
        "cpu": _processor(cpuinfo),
        "cgroups": "v2" if cgroups.is_v2() else "v1",
    }


def _processor(cpuinfo: Path) -> str:
    """Hash (16 hex digits) of what the first processor is and can do; the others are like it."""
    first = cpuinfo.read_text().partition("\n\n")[0]
    fields = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    content = "\n".join(named.get(name, "") for name in _CPU_FIELDS)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
