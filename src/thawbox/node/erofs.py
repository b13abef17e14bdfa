"""EROFS images: what gVisor maps as a root, its page cache shared by all sandboxes."""

from __future__ import annotations

import os
from pathlib import Path

from thawbox import processes


async def make(tree: Path, image: Path) -> None:
    """Write the folder ``tree`` as the new image file ``image``.

    Uncompressed, without extended attributes, without inline data: gVisor reads nothing else, and its reader of
    inline data across blocks is younger than the images that people have.

    Raises:
        RuntimeFault: mkfs.erofs refused; there is no ``image`` then.
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
