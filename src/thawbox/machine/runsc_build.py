"""Building runsc from the pinned Go module beside this file: gVisor, with its seccomp filters compiled beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from thawbox.node.installed import file_digest

from .go import needed_version, provide_go
from .store import Store

MODULE = Path(__file__).parent / "runsc"
"""The Go module that runsc is built from: gVisor, pinned, and what is added to it."""
_VERSION = "20260905.0-160fafc42237"
"""Date and commit of the pinned module. No "release-" in front: that switches on checks for helper binaries."""


def sources(module: Path = MODULE) -> str:
    """What identifies the sources of a build: the pinned version and the sha256 of every file of the module."""
    files = sorted(path for path in module.rglob("*") if path.is_file())
    return " ".join(
        [_VERSION, *(f"{file.relative_to(module)}:{file_digest(file, 'sha256')}" for file in files)]
    )


async def build_runsc(store: Store, report: Callable[[str], None]) -> Path:
    """Build runsc and put it into the store, whose lock the caller holds; returns its path.

    Raises:
        RuntimeFault: there is no Go, or a source cannot be downloaded or built.
    """
    go = await provide_go(needed_version(MODULE / "go.mod"), store, report)
    report("building runsc from its pinned source: about 75 s on two cores, longer on the first run")
    with store.workspace() as workspace:
        module = shutil.copytree(MODULE, workspace / "module")
        filters = await go.run(module, "run", "-mod=readonly", "-trimpath", "./precompile")
        (module / "filters.go").write_text(filters)
        version = f"-s -w -X gvisor.dev/gvisor/runsc/version.version={_VERSION}"
        await go.run(module, "build", "-mod=readonly", "-trimpath", "-ldflags", version, "-o", "runsc", ".")
        return store.keep_runsc(sources(), module / "runsc")
