"""The interface to one machine's containers, for sandboxes and builds.

``containers.Node`` implements it with gVisor, ``thawbox.testing.runtime`` without a kernel.
"""

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
    """State of a container. Source of the values: the OCI runtime specification; of ``paused``: ``runsc``."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Runtime(Protocol):
    """One machine's containers. Every method may be cancelled. Whoever creates a container must destroy it."""

    @property
    def layout(self) -> Layout:
        """Paths below the state folder."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the runtime's binary. Only the build that made a snapshot can restore it."""
        ...

    @property
    def agent_image(self) -> Path:
        """The agent's image for containers that boot. Those that thaw need the one they were frozen with."""
        ...

    async def create(
        self,
        container_id: str,
        *,
        root: spec.Directory | spec.Erofs,
        limits: cgroups.ResourceLimits,
        disk_gb: int,
        agent_image: Path | None = None,
        hostname: str = "sandbox",
        internet: bool = True,
    ) -> Container:
        """Create a container in which no program runs yet.

        Raises:
            RuntimeFault, NoCapacity: it did not work; nothing is left.
        """
        ...

    async def greet(self, container: Container, greet: Greeting) -> None:
        """Send a first request to the agent of a running container.

        Raises:
            RuntimeFault: the container died.
            GuestError, GuestFault: the agent reports an error, or does not answer.
        """
        ...

    async def cut_off(self, container: Container) -> Container:
        """Cut the container off from the internet. Returns its new description."""
        ...

    async def boot(self, container: Container, greet: Greeting | None = None) -> None:
        """Start the created container; returns when its agent answers (``greet``, if given).

        Raises:
            RuntimeFault: it does not answer in time; the caller must destroy it.
        """
        ...

    async def thaw(self, container: Container, memory: Path, greet: Greeting | None = None) -> None:
        """Load the snapshot in the folder ``memory`` into the created container; returns when its agent answers.

        Raises:
            RuntimeFault: it did not work; the caller must destroy the container.
        """
        ...

    async def freeze(self, container: Container) -> None:
        """Stop all its programs; its memory and connections stay.

        Raises:
            RuntimeFault: it did not work, or the container is frozen already.
        """
        ...

    async def unfreeze(self, container: Container) -> None:
        """Let its programs continue.

        Raises:
            RuntimeFault: it did not work.
        """
        ...

    async def checkpoint(self, container: Container, folder: Path, *, leave_running: bool = True) -> None:
        """Write memory and changed files of the running or frozen container into the new ``folder``.

        The container stays as it is, or ends if ``leave_running`` is false.

        Raises:
            RuntimeFault: it did not work; the folder's content cannot be used.
        """
        ...

    async def tar_upper(self, container: Container, destination: Path) -> None:
        """Write the files that the running container has changed as a tar file in overlayfs form.

        Raises:
            RuntimeFault: it did not work.
        """
        ...

    async def end_programs(self, container: Container) -> None:
        """End every program of the running container except the agent.

        Raises:
            RuntimeFault, GuestFault, GuestError: the container died, or a program does not end.
        """
        ...

    async def destroy(self, container: Container) -> None:
        """Kill the container, whatever state it is in, and free its resources. It may be called again."""
        ...

    def running(
        self,
        container_id: str,
        *,
        root: spec.Directory | spec.Erofs,
        limits: cgroups.ResourceLimits,
        disk_gb: int,
        memory: Path | None = None,
        agent_image: Path | None = None,
        internet: bool = True,
    ) -> AbstractAsyncContextManager[Container]:
        """A container for the duration of the block: booted, or thawed if ``memory`` is given."""
        ...

    def endpoint(self, slot: int, secret: str) -> Endpoint:
        """The address of the agent of the container in that slot. Cheaper than ``container``."""
        ...

    def container(
        self, container_id: str, *, slot: int, secret: str, disk_gb: int, internet: bool
    ) -> Container:
        """The description of a container that runs already; it is not looked up. Cheap."""
        ...

    def adopt(self, container: Container) -> None:
        """Take over a container that an earlier server left running, and set its ``died`` when it ends."""
        ...

    async def statuses(self) -> dict[str, str]:
        """Container id -> status: a ``ContainerStatus`` or another word of the runtime.

        Only running and paused containers can still be used.
        """
        ...

    async def remove_leftovers(self, keep: Collection[Container]) -> None:
        """Remove what earlier servers left, except what ``keep`` uses. Call it before a container is created."""
        ...
