"""Which start of the machine our records are of.

After another one the process ids in runsc's records belong to strangers: runsc would take a sandbox for alive, and
kill the stranger to remove it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from thawbox import processes
from thawbox.state import Layout
from thawbox.util import atomic


async def forget_earlier(layout: Layout) -> bool:
    """Drop runsc's records if the machine (or the container that is our machine) has started anew since they were made.

    Call it before runsc is asked anything. Returns whether that was so. Records without a note of their start, from
    a version that made none, count as of this one.
    """
    note, now = layout.boot, _now()
    earlier = note.exists() and note.read_text() != now
    if earlier:
        await processes.run(["umount", "-n", layout.containers / "null-netns"], check=False)
        shutil.rmtree(layout.containers)
        layout.containers.mkdir(mode=0o700)
    atomic.write_text(note, now)
    return earlier


def _now() -> str:
    """The kernel's name for its start, and when our first process began: a container has the host's kernel."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    first = Path("/proc/1/stat").read_text().rpartition(")")[2].split()
    return f"{boot} {first[19]}"
