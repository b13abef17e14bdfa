"""Temporary folders of the image sources: private, on the state's disk, gone on every orderly path."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from thawbox.settings import Settings


def place(settings: Settings) -> Path:
    """Where they are made. Whatever lies there when the server starts is left over from one that was killed."""
    return settings.state / "tmp" / "images"


@asynccontextmanager
async def folder(settings: Settings) -> AsyncIterator[Path]:
    """A fresh folder with mode 0700 that is removed at the end, also after cancellation."""
    above = place(settings)
    above.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=above))
    try:
        yield made
    finally:
        # In a thread: it may hold gigabytes. Shielded: a second cancellation must not leave half of it.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, made, ignore_errors=True))


def remove_leftovers(settings: Settings) -> None:
    """Remove what a killed server left. To be called at start, before the first ``resolve``."""
    shutil.rmtree(place(settings), ignore_errors=True)
