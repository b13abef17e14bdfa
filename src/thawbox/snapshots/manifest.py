"""The manifest of a template's version: what sandboxes of the template start from.

Three words that are used for nothing else:

* *image*: the file system, an EROFS file below ``images``. Any build of runsc boots it.
* *snapshot*: the frozen memory, a folder below the version's own. It restores only with the build of runsc and the
  agent that froze it.
* *version*: both, with what programs start with. ``snapshots/<key>/manifest.json`` describes one.

The image is what is kept. When runsc changes, the snapshot is made again from it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thawbox.errors import InternalFault
from thawbox.state import Layout
from thawbox.templates.recipe import ReadyCheck, ReadyKind
from thawbox.util import atomic

_SNAPSHOT_KEY = "memory"
"""The snapshot's key in manifest.json. State folders that exist have it, so it keeps its first name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Frozen memory."""

    folder: str
    """name below the version's own folder"""
    runsc_sha256: str
    """of the build of runsc that froze it"""
    agent_image: str
    """file name of the agent's image below ``runtime``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An image, its snapshot, and what programs start with."""

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
    """Python modules that interpreters in the snapshot have imported"""
    kernel: bool = False
    """whether an IPython kernel runs in the snapshot"""
    cpu: int
    """whole cores"""
    memory_mb: int
    disk_gb: int
    snapshot: Snapshot | None = None
    """None: it has to be made (again)"""
    from_sandbox: bool = False
    """Saved from a sandbox. What was written in the sandbox is in the snapshot alone, so this version can neither
    boot cold nor have its snapshot made again."""

    def thaws_with(self, runsc_digest: str) -> bool:
        """Whether the version has a snapshot that the build of runsc with this sha256 restores."""
        return self.snapshot is not None and restores(self.snapshot.runsc_sha256, runsc_digest)


def restores(frozen_by: str | None, runsc_digest: str) -> bool:
    """Whether frozen memory restores: only the very build of runsc that froze it does that.

    Both arguments are sha256 digests of runsc; ``frozen_by`` is None if it is not known.
    """
    return frozen_by == runsc_digest


def folder_of(layout: Layout, key: str) -> Path:
    """The version's folder."""
    return layout.snapshots / key


def image_path(layout: Layout, version: Version) -> Path:
    """The version's EROFS image."""
    return layout.images / version.image


def snapshot_path(layout: Layout, version: Version) -> Path | None:
    """The folder for ``runsc restore``; None if there is no snapshot."""
    return folder_of(layout, version.key) / version.snapshot.folder if version.snapshot else None


def load(layout: Layout, key: str) -> Version | None:
    """The version, if its manifest and its image exist.

    Raises:
        InternalFault: the manifest is damaged.
    """
    try:
        raw = json.loads(_path(layout, key).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InternalFault(f"the manifest of snapshot {key} is damaged: {error}") from error
    if ready := raw.pop("ready"):
        ready = ReadyCheck(**{**ready, "kind": ReadyKind(ready["kind"])})
    snapshot = raw.pop(_SNAPSHOT_KEY)
    version = Version(
        **{**raw, "layers": tuple(raw["layers"]), "warm": tuple(raw["warm"])},
        ready=ready,
        snapshot=Snapshot(**snapshot) if snapshot else None,
    )
    return version if image_path(layout, version).exists() else None


def save(layout: Layout, version: Version) -> None:
    """Write the manifest; image and snapshot must exist already."""
    folder = folder_of(layout, version.key)
    folder.mkdir(exist_ok=True, mode=0o700)
    fields = asdict(version)
    fields[_SNAPSHOT_KEY] = fields.pop("snapshot")
    atomic.write_text(_path(layout, version.key), json.dumps(fields, indent=1), durable=True)


def remove(layout: Layout, key: str) -> None:
    """Remove the manifest, so that the version is not found any more. The caller removes its other files."""
    _path(layout, key).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The files outside of its own folder that a version needs."""

    image: str
    layers: tuple[str, ...]
    agent_image: str | None
    """None: it has no snapshot"""


def references(layout: Layout) -> Iterator[References]:
    """What each version needs. Folders without a readable manifest are passed over."""
    for folder in layout.snapshots.iterdir():
        # Not by ``load``: a manifest of a later Thawbox, with more keys, protects its files as well.
        with contextlib.suppress(FileNotFoundError, ValueError):
            raw: dict[str, Any] = json.loads(_path(layout, folder.name).read_text())
            snapshot = raw[_SNAPSHOT_KEY]
            yield References(
                image=raw["image"],
                layers=tuple(raw["layers"]),
                agent_image=snapshot["agent_image"] if snapshot else None,
            )


def _path(layout: Layout, key: str) -> Path:
    return folder_of(layout, key) / "manifest.json"
