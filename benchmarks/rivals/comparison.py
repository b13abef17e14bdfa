"""All rivals beside each other: turn and turn about, each as often."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from bench.figures import Series, gather

from . import crun, gvisor_package, qemu, runsc_run
from .ground import Ground, WorkFailed

RIVALS: tuple[ModuleType, ...] = (gvisor_package, runsc_run, crun, qemu)
WARM_UP = 1


def compared(tree: Path, runsc: Path, count: int, folder: Path) -> tuple[Series, ...]:
    """A series of milliseconds for each; one that is not installed has a note instead of samples."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rivals-", dir=folder)))
        stack.callback(_unmount_below, scratch)
        ground = Ground(tree=tree, runsc=runsc, scratch=scratch)
        works: dict[str, Callable[[], float]] = {}
        results: dict[str, list[float | Exception]] = {rival.NAME: [] for rival in RIVALS}
        notes: dict[str, str] = {}
        for rival in RIVALS:
            if (lacking := rival.missing()) is not None:
                notes[rival.NAME] = f"{lacking} not installed: {rival.INSTALL}"
                continue
            try:
                works[rival.NAME] = stack.enter_context(rival.prepared(ground))
            except WorkFailed as error:
                results[rival.NAME].append(error)
        for number in range(WARM_UP + count):
            for name, work in works.items():
                result = _tried(work)
                if number >= WARM_UP:
                    results[name].append(result)
        return tuple(gather(name, "ms", found, note=notes.get(name, "")) for name, found in results.items())


def _tried(work: Callable[[], float]) -> float | Exception:
    try:
        return work()
    except WorkFailed as error:
        return error


def _unmount_below(folder: Path) -> None:
    """runsc leaves a mounted network namespace in its state folder."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (point := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", point], check=True)
