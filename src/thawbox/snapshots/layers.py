"""The layer store: the files that a step changed, as a folder that overlayfs takes as it is.

``layers/<id>/fs`` is the tree, ``layers/<id>/layer.json`` its origin. ``layers/index/<key>`` holds the id of the layer
that was made last for a key. A complete layer is renamed to its id, and enters the index after that: so every layer
that is found is complete.

The id of a layer is its key the first time, and a new one whenever the same key is built again (``skipCache``).
Keys of later steps derive from the id, so they follow what is really below them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawbox.state import Layout
from thawbox.util import atomic

ID_LENGTH = 32
"""Hex digits; short, because 4,096 bytes have to hold the names of all layers of a mount."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A complete layer."""

    id: str
    folder: Path

    @property
    def tree(self) -> Path:
        """The files."""
        return self.folder / "fs"

    @property
    def about(self) -> dict[str, Any]:
        """What was noted down when it was made."""
        loaded: dict[str, Any] = json.loads((self.folder / "layer.json").read_text())
        return loaded


def digest(*parts: str) -> str:
    """The key that these parts make; no two lists of parts make the same."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:ID_LENGTH]


def find(layout: Layout, key: str) -> Layer | None:
    """The layer that ``key`` stands for now, marked as used."""
    try:
        layer = get(layout, (_index(layout) / key).read_text())
    except FileNotFoundError:
        return None
    if layer is not None:
        os.utime(layer.folder / "layer.json")
    return layer


def get(layout: Layout, layer_id: str) -> Layer | None:
    """The layer with this id."""
    folder = layout.layers / layer_id
    return Layer(layer_id, folder) if (folder / "layer.json").exists() else None


def publish(layout: Layout, key: str, half_made: Path, about: dict[str, Any]) -> Layer:
    """Make ``half_made`` (a folder below ``tmp`` with ``fs`` in it) the layer that ``key`` stands for."""
    (half_made / "layer.json").write_text(json.dumps({"key": key, "made_at": time.time(), **about}))
    layer_id = key if get(layout, key) is None else secrets.token_hex(ID_LENGTH // 2)
    folder = layout.layers / layer_id
    if folder.exists():  # without layer.json: a removal that did not get to its end
        shutil.rmtree(folder)
    half_made.rename(folder)
    _index(layout).mkdir(exist_ok=True, mode=0o700)
    atomic.write_text(_index(layout) / key, layer_id)
    return Layer(layer_id, folder)


def collect(layout: Layout, keep: Iterable[str], *, unused_for_s: float) -> tuple[int, int]:
    """Remove layers that are neither in ``keep`` nor were used in the last ``unused_for_s`` seconds.

    Returns how many layers went and how many bytes that freed.
    """
    keep = set(keep)
    removed = freed = 0
    for folder in layout.layers.iterdir():
        if folder.name == "index" or folder.name in keep:
            continue
        about = folder / "layer.json"
        if about.exists() and time.time() - about.stat().st_mtime < unused_for_s:
            continue
        freed += size_of(folder)
        about.unlink(missing_ok=True)  # first, so that it is not found any more
        shutil.rmtree(folder)
        removed += 1
    if _index(layout).exists():
        for entry in _index(layout).iterdir():
            if entry.name.startswith(".") or get(layout, entry.read_text()) is None:
                entry.unlink()
    return removed, freed


def size_of(tree: Path) -> int:
    """Bytes on disk of everything below ``tree``."""
    total = 0
    for folder, _, files in os.walk(tree):
        for name in files:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def _index(layout: Layout) -> Path:
    return layout.layers / "index"
