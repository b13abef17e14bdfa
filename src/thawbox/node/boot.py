"""Which boot of the machine runsc's records belong to.

After a reboot, the process ids in them belong to other programs: runsc would take a sandbox for alive, and kill such a
program to remove it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from thawbox import processes
from thawbox.state import Layout
from thawbox.util import atomic


async def discard_stale_records(layout: Layout) -> bool:
    """Remove runsc's records if the machine has rebooted since they were made. Returns whether it has.

    If the server runs in a container, a restart of that container counts as a reboot. Call this before runsc is
    called. State folders written before this note existed are assumed to belong to the current boot.
    """
    note, now = layout.boot, current_boot()
    earlier = note.exists() and note.read_text() != now
    if earlier:
        await processes.run(["umount", "-n", layout.containers / "null-netns"], check=False)
        shutil.rmtree(layout.containers)
        layout.containers.mkdir(mode=0o700)
    atomic.write_text(note, now)
    return earlier


def current_boot() -> str:
    """The kernel's id of this boot and the start time of process 1, which a container has of its own.

    Source: proc(5), ``/proc/sys/kernel/random/boot_id``, and field 22 (starttime) of ``/proc/pid/stat``.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    first = Path("/proc/1/stat").read_text().rpartition(")")[2].split()
    return f"{boot} {first[19]}"
