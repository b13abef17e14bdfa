"""Stacked layers as one read-only tree of the host."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from thawbox import processes
from thawbox.snapshots.layers import Layer
from thawbox.state import Layout


@contextlib.asynccontextmanager
async def mounted(layout: Layout, layers: Sequence[Layer]) -> AsyncIterator[Path]:
    """The layers, lowest first, as one folder that lives as long as the block.

    Raises:
        RuntimeFault: the kernel refused the mount.
    """
    if len(layers) == 1:
        yield layers[0].tree
        return
    target = layout.mounts / secrets.token_hex(8)
    target.mkdir()
    try:
        lower = ":".join(f"{layer.id}/fs" for layer in reversed(layers))
        # Relative names, because the kernel takes no more than a page of options.
        await processes.run(
            ["mount", "-n", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", target],
            cwd=layout.layers,
        )
        try:
            yield target
        finally:
            await processes.run(["umount", "-n", target])
    finally:
        target.rmdir()


async def unmount_leftovers(layout: Layout) -> int:
    """Remove what a crash left mounted. Returns how many mounts there were."""
    found = 0
    for target in layout.mounts.iterdir():
        if target.is_mount():
            await processes.run(["umount", "-n", "--lazy", target])
            found += 1
        target.rmdir()
    return found
