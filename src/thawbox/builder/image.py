"""From layers to an EROFS image, the form in which gVisor reads a root fastest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thawbox.node import erofs
from thawbox.node.runtime import Runtime
from thawbox.snapshots.garbage import BASE_IMAGE
from thawbox.snapshots.layers import Layer
from thawbox.util import atomic

from . import overlay


async def make_image(node: Runtime, chain: Sequence[Layer], name: str) -> Path:
    """The EROFS image of the stacked layers; made only if it is not there yet.

    Raises:
        RuntimeFault: the kernel or mkfs.erofs refused; there is no such image then.
    """
    image = node.layout.images / name
    if not image.exists():
        with atomic.replacing(image, within=node.layout.tmp) as unfinished:
            async with overlay.mounted(node.layout, chain) as tree:
                await erofs.make(tree, unfinished)
    return image


def base_image_name(base: Layer) -> str:
    """The name of a base image's own EROFS image, which first steps run on. It lives as long as the layer."""
    return BASE_IMAGE.format(layer=base.id)
