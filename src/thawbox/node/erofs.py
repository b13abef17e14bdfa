"""EROFS images. gVisor maps one as the root of all sandboxes of a template, which share its page cache."""

from __future__ import annotations

from pathlib import Path

from thawbox import processes
from thawbox.util import atomic


async def make(tree: Path, image: Path) -> None:
    """Write the folder ``tree`` as the new image file ``image``.

    The image is uncompressed and has no extended attributes, because gVisor reads no others. It has no inline data,
    because only recent builds of gVisor read inline data that crosses a block.

    Raises:
        RuntimeFault: mkfs.erofs failed or took longer than 30 minutes; there is no ``image`` then.
    """
    with atomic.replacing(image) as unfinished:
        await processes.run(
            ["mkfs.erofs", "-x-1", "-E", "noinline_data", "--quiet", unfinished, tree],
            timeout_s=1800,
            die_with_parent=True,
        )
        atomic.sync(unfinished)
