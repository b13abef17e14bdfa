"""Paths below the state folder. Each folder belongs to one package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the state folder.

    What is below ``tmp`` belongs to work in progress and is removed at the next start. Everything else is complete,
    because it is moved to its place only when it is.
    """

    state: Path

    @property
    def lock(self) -> Path:
        """Locked by the server that uses this folder; there can be only one."""
        return self.state / "lock"

    @property
    def control_socket(self) -> Path:
        """Socket on which the running server takes commands from root."""
        return self.state / "control.sock"

    @property
    def runtime(self) -> Path:
        """runsc, the result of its self-test, and the agent's images."""
        return self.state / "runtime"

    @property
    def containers(self) -> Path:
        """runsc's records (``--root``)."""
        return self.state / "run" / "runsc"

    @property
    def boot(self) -> Path:
        """File that names the boot of the machine to which the files below ``run`` belong."""
        return self.state / "run" / "boot"

    @property
    def bundles(self) -> Path:
        """A folder per container: OCI bundle and console output."""
        return self.state / "run" / "bundles"

    @property
    def upper(self) -> Path:
        """Writable layers of running sandboxes: one folder for all, because its path is in every snapshot."""
        return self.state / "run" / "upper"

    @property
    def mounts(self) -> Path:
        """Mounts of stacked layers, for build steps that are running."""
        return self.state / "run" / "mounts"

    @property
    def tmp(self) -> Path:
        """Files of work in progress."""
        return self.state / "tmp"

    @property
    def layers(self) -> Path:
        """Layers by key: ``fs/`` and ``layer.json``."""
        return self.state / "layers"

    @property
    def images(self) -> Path:
        """EROFS images of templates."""
        return self.state / "images"

    @property
    def snapshots(self) -> Path:
        """Template versions by key: manifest and snapshot."""
        return self.state / "snapshots"

    @property
    def paused(self) -> Path:
        """Memory and files of paused and stopped sandboxes: a folder per sandbox, in it one per freeze."""
        return self.state / "paused"

    @property
    def logs(self) -> Path:
        """Build logs."""
        return self.state / "logs"

    @property
    def uploads(self) -> Path:
        """Files that clients have uploaded for COPY steps."""
        return self.state / "uploads"

    @property
    def cache(self) -> Path:
        """Downloads that may be deleted at any time, such as packages for base images."""
        return self.state / "cache"

    def make(self) -> None:
        """Create every folder, with mode 0700. They may exist already."""
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
