"""``runsc run`` of /bin/true: gVisor with its own defaults, no network, nothing kept; until the container is gone."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator

from .ground import Ground, new_name, timed, write_bundle

NAME = "runsc run"
INSTALL = "scripts/setup"


def missing() -> str | None:
    """Never: the comparison brings its runsc along."""
    return None


@contextlib.contextmanager
def prepared(ground: Ground) -> Iterator[Callable[[], float]]:
    """Yields the work."""
    # The overlay is in memory: by default its file would be made in the root, which others use.
    flags = [f"--root={ground.scratch / 'runsc'}", "--network=none", "--overlay2=root:memory"]

    def once() -> float:
        name = new_name()
        bundle = write_bundle(ground, name)
        try:
            return timed([str(ground.runsc), *flags, "run", f"--bundle={bundle}", name])
        finally:
            subprocess.run(
                [ground.runsc, *flags, "delete", "--force", name], capture_output=True, check=False
            )

    yield once
