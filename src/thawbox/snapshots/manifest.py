"""A version of a template: what sandboxes boot from.

``snapshots/<key>/manifest.json`` names the EROFS image, what programs start with, and the memory snapshot with the
builds of runsc and of the agent that made it. Memory restores with these builds only; the image boots with any, so
it is what is kept, and memory is made from it again when runsc changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from thawbox.errors import InternalFault
from thawbox.state import Layout
from thawbox.templates.recipe import ReadyCheck, ReadyKind
from thawbox.util import atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory snapshot."""

    folder: str
    """name below the version's own folder"""
    runsc_sha256: str
    agent_image: str
    """file name of the agent's image below ``runtime``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A manifest."""

    key: str
    image: str
    """name of the EROFS file below ``images``"""
    layers: tuple[str, ...]
    """ids, lowest first, of what the image was made of"""
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str | None = None
    start_cmd: str | None = None
    ready: ReadyCheck | None = None
    warm: tuple[str, ...] = ()
    """Python modules that interpreters in the memory snapshot have imported"""
    kernel: bool = False
    """whether an IPython kernel runs in the memory snapshot"""
    cpu: int
    memory_mb: int
    disk_gb: int
    memory: Memory | None = None
    """None: has to be made (again)"""
    from_sandbox: bool = False
    """Saved from a sandbox: what was written in it lies in the memory alone, so it can neither boot cold nor be
    made again."""


def folder_of(layout: Layout, key: str) -> Path:
    """The version's folder."""
    return layout.snapshots / key


def image_path(layout: Layout, version: Version) -> Path:
    """The version's EROFS image."""
    return layout.images / version.image


def memory_path(layout: Layout, version: Version) -> Path | None:
    """The folder for ``runsc restore``; None if there is no memory snapshot."""
    return folder_of(layout, version.key) / version.memory.folder if version.memory else None


def load(layout: Layout, key: str) -> Version | None:
    """The version, if it is complete."""
    try:
        raw = json.loads((folder_of(layout, key) / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InternalFault(f"the manifest of snapshot {key} is damaged: {error}") from error
    if ready := raw.pop("ready"):
        ready = ReadyCheck(**{**ready, "kind": ReadyKind(ready["kind"])})
    memory = raw.pop("memory")
    version = Version(
        **{**raw, "layers": tuple(raw["layers"]), "warm": tuple(raw["warm"])},
        ready=ready,
        memory=Memory(**memory) if memory else None,
    )
    return version if image_path(layout, version).exists() else None


def save(layout: Layout, version: Version) -> None:
    """Write the manifest; what it names must be there already."""
    folder = folder_of(layout, version.key)
    folder.mkdir(exist_ok=True, mode=0o700)
    atomic.write_text(folder / "manifest.json", json.dumps(asdict(version), indent=1), durable=True)
