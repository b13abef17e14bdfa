"""``crun run`` of /bin/true: a plain container, no sandbox. The floor of what namespaces and cgroups cost."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from .ground import Ground, WorkFailed, new_name, timed, write_bundle

NAME = "crun run (a container, no sandbox)"
INSTALL = "apt install crun"
_UNIFIED = Path("/sys/fs/cgroup/unified")


def missing() -> str | None:
    """``crun``, if it is not there."""
    return None if shutil.which("crun") else "crun"


@contextlib.contextmanager
def prepared(ground: Ground) -> Iterator[Callable[[], float]]:
    """Yields the work."""
    with _one_cgroup_version() as prefix:
        command = [*prefix, "crun", f"--root={ground.scratch / 'crun'}", "--cgroup-manager=cgroupfs"]

        def once() -> float:
            name = new_name()
            bundle = write_bundle(ground, name)
            try:
                return timed([*command, "run", f"--bundle={bundle}", name])
            finally:
                subprocess.run([*command, "delete", "--force", name], capture_output=True, check=False)

        yield once


@contextlib.contextmanager
def _one_cgroup_version() -> Iterator[list[str]]:
    """Arguments to put before a command so that crun works where both versions of cgroups are mounted.

    It refuses such a machine; so it runs in a mount namespace, which ends with the block, without version 2.
    """
    if not _UNIFIED.is_dir():
        yield []
        return
    script = f"umount {_UNIFIED} && echo done && exec sleep infinity"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "/bin/sh", "-c", script], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"done\n":
                raise WorkFailed(f"{_UNIFIED} cannot be unmounted in a namespace of its own")
            yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        finally:
            holder.kill()
