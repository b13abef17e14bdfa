"""Where things lie below the state folder. One owner per folder; all paths are absolute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the state folder.

    What is below ``tmp`` belongs to work under way and is removed at the next start; everything else is complete,
    because it got its name by a rename.
    """

    state: Path

    @property
    def lock(self) -> Path:
        """Held by the one server that uses this folder."""
        return self.state / "lock"

    @property
    def control_socket(self) -> Path:
        """Where the running server answers root."""
        return self.state / "control.sock"

    @property
    def runtime(self) -> Path:
        """runsc, its self-test's verdict, and the images of the guest agent."""
        return self.state / "runtime"

    @property
    def containers(self) -> Path:
        """runsc's own records (``--root``)."""
        return self.state / "run" / "runsc"

    @property
    def boot(self) -> Path:
        """A note of the start of the machine that what is below ``run`` is of."""
        return self.state / "run" / "boot"

    @property
    def bundles(self) -> Path:
        """A folder per container: OCI bundle, console output."""
        return self.state / "run" / "bundles"

    @property
    def upper(self) -> Path:
        """Writable layers of running sandboxes; one for all, since its path is part of every snapshot."""
        return self.state / "run" / "upper"

    @property
    def mounts(self) -> Path:
        """Stacked layers of build steps that are running."""
        return self.state / "run" / "mounts"

    @property
    def tmp(self) -> Path:
        """Half-made things."""
        return self.state / "tmp"

    @property
    def layers(self) -> Path:
        """Layers by key: ``fs/`` and ``layer.json``."""
        return self.state / "layers"

    @property
    def images(self) -> Path:
        """EROFS roots of templates."""
        return self.state / "images"

    @property
    def snapshots(self) -> Path:
        """Template versions by key: manifest and memory snapshot."""
        return self.state / "snapshots"

    @property
    def paused(self) -> Path:
        """Memory and files of sandboxes that are paused or stopped: a folder per sandbox, one in it per freeze."""
        return self.state / "paused"

    @property
    def logs(self) -> Path:
        """Build logs."""
        return self.state / "logs"

    @property
    def uploads(self) -> Path:
        """Files that clients uploaded for COPY steps."""
        return self.state / "uploads"

    @property
    def cache(self) -> Path:
        """Downloads that may go at any time (packages of bootstraps)."""
        return self.state / "cache"

    def make(self) -> None:
        """Create every folder, private to root."""
        for path in (
            self.state,
            self.runtime,
            self.containers,
            self.bundles,
            self.upper,
            self.mounts,
            self.tmp,
            self.layers,
            self.images,
            self.snapshots,
            self.paused,
            self.logs,
            self.uploads,
            self.cache,
        ):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
