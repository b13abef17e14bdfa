"""Temporary folders of the image sources: private, on the disk of the state folder, removed on every orderly path."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from thawbox.settings import Settings
from thawbox.state import Layout


def parent(settings: Settings) -> Path:
    """Where they are made. What a killed server leaves there is removed at the next start (``node.leftovers``)."""
    return Layout(settings.state).tmp / "images"


@asynccontextmanager
async def folder(settings: Settings) -> AsyncIterator[Path]:
    """A fresh folder with mode 0700 that is removed at the end, also after cancellation."""
    above = parent(settings)
    above.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=above))
    try:
        yield made
    finally:
        # In a thread: it may hold gigabytes. Shielded: a second cancellation must not leave half of it.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, made, ignore_errors=True))
