"""The runtime seam: what sandboxes and builds need of one machine. ``containers.Node`` is the real one."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from thawbox.guest import Endpoint
from thawbox.state import Layout

from . import cgroups, spec
from .container import Container, Greeting


class ContainerStatus(StrEnum):
    """What a container is doing, in the runtime's words (OCI runtime specification, and ``runsc`` for paused)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Runtime(Protocol):
    """One machine's containers. Every method may be cancelled; whoever made a container destroys it."""

    @property
    def layout(self) -> Layout:
        """Where files lie."""
        ...

    @property
    def digest(self) -> str:
        """Names the build of the runtime; memory restores with the very build that froze it."""
        ...

    @property
    def agent_image(self) -> Path:
        """The agent of containers that boot; those that thaw need the one that was frozen."""
        ...

    async def create(
        self,
        container_id: str,
        *,
        root: spec.Directory | spec.Erofs,
        limits: cgroups.Limits,
        disk_gb: int,
        agent_image: Path | None = None,
        hostname: str = "sandbox",
        internet: bool = True,
    ) -> Container:
        """All that a container holds, but nothing runs yet; if this raises, nothing is left."""
        ...

    async def greet(self, container: Container, greet: Greeting) -> None:
        """Say something to the agent of a running container; raises if it dies or refuses."""
        ...

    async def cut_off(self, container: Container) -> Container:
        """The same container, whose programs reach no internet from now on."""
        ...

    async def boot(self, container: Container, greet: Greeting | None = None) -> None:
        """Start the created container; returns when its agent answers."""
        ...

    async def thaw(self, container: Container, memory: Path, greet: Greeting | None = None) -> None:
        """Load memory into the created container; returns when its agent answers.

        If it raises, the container is of no more use and has to be destroyed.
        """
        ...

    async def freeze(self, container: Container) -> None:
        """Stop its programs where they are. Frozen already: an error."""
        ...

    async def unfreeze(self, container: Container) -> None:
        """Let them go on."""
        ...

    async def checkpoint(self, container: Container, folder: Path, *, leave_running: bool = True) -> None:
        """Write memory and changed files of the running or frozen container into the new ``folder``.

        The container stays as it is, or ends if ``leave_running`` is false.
        """
        ...

    async def tar_upper(self, container: Container, destination: Path) -> None:
        """Write what the running container changed in its root as a tar file in overlayfs form."""
        ...

    async def end_programs(self, container: Container) -> None:
        """End every program of the running container except the agent."""
        ...

    async def destroy(self, container: Container) -> None:
        """End it and give back what it holds, in whatever state it is; may be repeated."""
        ...

    def running(
        self,
        container: str,
        *,
        root: spec.Directory | spec.Erofs,
        limits: cgroups.Limits,
        disk_gb: int,
        memory: Path | None = None,
        agent_image: Path | None = None,
        internet: bool = True,
    ) -> AbstractAsyncContextManager[Container]:
        """A container that lives as long as the block: booted, or thawed if ``memory`` is given."""
        ...

    def endpoint(self, slot: int, secret: str) -> Endpoint:
        """Where the agent of the container in that slot listens. Cheaper still than ``container``."""
        ...

    def container(
        self, container_id: str, *, slot: int, secret: str, disk_gb: int, internet: bool
    ) -> Container:
        """What is known of a container that runs. Cheap."""
        ...

    def adopt(self, container: Container) -> None:
        """Take over what an earlier server left: its ``died`` is set from now on."""
        ...

    async def statuses(self) -> dict[str, str]:
        """Container id -> its status: a ``ContainerStatus``, or another word of the runtime. Only running and paused
        containers can still be used."""
        ...

    async def remove_leftovers(self, keep: Collection[Container]) -> None:
        """At the start: remove all that is not of these."""
        ...
