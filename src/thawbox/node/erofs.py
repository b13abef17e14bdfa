"""EROFS images: what gVisor maps as a root, its page cache shared by all sandboxes."""

from __future__ import annotations

from pathlib import Path

from thawbox import processes
from thawbox.util import atomic


async def make(tree: Path, image: Path) -> None:
    """Write the folder ``tree`` as the new image file ``image``.

    Uncompressed, without extended attributes, without inline data: gVisor reads nothing else, and its reader of
    inline data across blocks is younger than the images that people have.

    Raises:
        RuntimeFault: mkfs.erofs refused; there is no ``image`` then.
    """
    with atomic.replacing(image) as unfinished:
        await processes.run(
            ["mkfs.erofs", "-x-1", "-E", "noinline_data", "--quiet", unfinished, tree], timeout=1800
        )
        atomic.sync(unfinished)
