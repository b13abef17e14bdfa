"""EROFS images. gVisor maps one as the root of all sandboxes of a template, which share its page cache."""

from __future__ import annotations

import os
from pathlib import Path

from thawbox import processes


async def make(tree: Path, image: Path) -> None:
    """Write the folder ``tree`` as the new image file ``image``.

    The image is uncompressed and has no extended attributes, because gVisor reads no others. It has no inline data,
    because only recent builds of gVisor read inline data that crosses a block.

    Raises:
        RuntimeFault: mkfs.erofs failed or took longer than 30 minutes; there is no ``image`` then.
    """
    half_made = image.with_suffix(".partial")
    try:
        await processes.run(
            ["mkfs.erofs", "-x-1", "-E", "noinline_data", "--quiet", half_made, tree],
            timeout_s=1800,
            die_with_parent=True,
        )
        with open(half_made, "rb") as file:
            os.fsync(file.fileno())
        half_made.rename(image)
    finally:
        half_made.unlink(missing_ok=True)
