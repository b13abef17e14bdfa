"""A test double of ``node.runtime.Runtime``: containers are entries of a table, and tests can make it misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import shutil
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from thawbox.errors import RuntimeFault
from thawbox.guest import Endpoint
from thawbox.node import cgroups, spec
from thawbox.node.container import Container, Greeting
from thawbox.node.runtime import ContainerStatus
from thawbox.node.slots import Slot
from thawbox.state import Layout


@dataclass
class FakeContainer:
    """What the double knows about a container."""

    container: Container
    status: ContainerStatus = ContainerStatus.CREATED
    content: str = ""
    """Stands for its memory and files."""
    programs: int = 0


Trouble = Callable[[str, str], Awaitable[None]]
"""Called with a method's name and the container's id before the method does anything; may raise, wait, or kill."""


async def no_trouble(_method: str, _container: str) -> None:
    """Let everything work."""


@dataclass
class FakeRuntime:
    """A ``Runtime`` without a kernel. It outlives the service that uses it, as containers outlive a server."""

    layout: Layout
    digest: str = "d" * 64
    agent_image: Path = Path("/nonexistent/agent.erofs")
    trouble: Trouble = no_trouble
    lies: set[str] = field(default_factory=set)
    """Names of methods that do nothing and report success."""
    table: dict[str, FakeContainer] = field(default_factory=dict)
    slots: set[int] = field(default_factory=set)

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
        """Add an entry, with a slot."""
        await self.trouble("create", container_id)
        if container_id in self.table:
            raise RuntimeFault(f"container {container_id} exists already")
        slot = next(number for number in itertools.count() if number not in self.slots)
        self.slots.add(slot)
        made = self.container(
            container_id, slot=slot, secret=f"secret of {container_id}", disk_gb=disk_gb, internet=internet
        )
        self.table[container_id] = FakeContainer(made)
        return made

    async def greet(self, container: Container, greet: Greeting) -> None:
        """Do nothing: there is no agent."""
        await self.trouble("greet", container.id)
        self._entry(container, ContainerStatus.RUNNING)

    async def cut_off(self, container: Container) -> Container:
        """Return the container without internet access."""
        await self.trouble("cut_off", container.id)
        return replace(container, internet=False)

    async def boot(self, container: Container, greet: Greeting | None = None) -> None:
        """Set the entry to running; its content stays empty."""
        await self.trouble("boot", container.id)
        self._entry(container, ContainerStatus.CREATED).status = ContainerStatus.RUNNING

    async def thaw(self, container: Container, memory: Path, greet: Greeting | None = None) -> None:
        """Set the entry to running, with the content that a checkpoint wrote."""
        await self.trouble("thaw", container.id)
        entry = self._entry(container, ContainerStatus.CREATED)
        try:
            words = (memory / "pages.img").read_text().split("\n")
        except OSError as error:
            raise RuntimeFault(f"no memory: {error}") from error
        entry.status, entry.content, entry.programs = ContainerStatus.RUNNING, words[0], int(words[1])

    async def freeze(self, container: Container) -> None:
        """Set the entry from running to paused."""
        await self.trouble("freeze", container.id)
        self._entry(container, ContainerStatus.RUNNING).status = ContainerStatus.PAUSED

    async def unfreeze(self, container: Container) -> None:
        """Set the entry from paused to running."""
        await self.trouble("unfreeze", container.id)
        self._entry(container, ContainerStatus.PAUSED).status = ContainerStatus.RUNNING

    async def checkpoint(self, container: Container, folder: Path, *, leave_running: bool = True) -> None:
        """Write one file with the content."""
        await self.trouble("checkpoint", container.id)
        entry = self._entry(container, ContainerStatus.RUNNING, ContainerStatus.PAUSED)
        if "checkpoint" not in self.lies:
            folder.mkdir()
            (folder / "pages.img").write_text(f"{entry.content}\n{entry.programs}")
        if not leave_running:
            entry.status = ContainerStatus.STOPPED

    async def tar_upper(self, container: Container, destination: Path) -> None:
        """Write a tar file with one file in it, ``content``."""
        await self.trouble("tar_upper", container.id)
        content = self._entry(container, ContainerStatus.RUNNING).content.encode()
        with tarfile.open(destination, "x") as tar:
            entry = tarfile.TarInfo("content")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    async def end_programs(self, container: Container) -> None:
        """Set the number of programs to 0."""
        await self.trouble("end_programs", container.id)
        self._entry(container, ContainerStatus.RUNNING).programs = 0

    async def destroy(self, container: Container) -> None:
        """Remove the entry and free its slot."""
        if self.table.pop(container.id, None) is not None:
            self.slots.remove(container.slot.index)

    @contextlib.asynccontextmanager
    async def running(
        self,
        container_id: str,
        *,
        root: spec.Directory | spec.Erofs,
        limits: cgroups.ResourceLimits,
        disk_gb: int,
        memory: Path | None = None,
        agent_image: Path | None = None,
        internet: bool = True,
    ) -> AsyncIterator[Container]:
        """Add an entry that exists as long as the block lasts."""
        made = await self.create(
            container_id,
            root=root,
            limits=limits,
            disk_gb=disk_gb,
            agent_image=agent_image,
            internet=internet,
        )
        try:
            if memory is None:
                await self.boot(made)
            else:
                await self.thaw(made, memory)
            yield made
        finally:
            await asyncio.shield(self.destroy(made))

    def endpoint(self, slot: int, secret: str) -> Endpoint:
        """An address at which nothing listens."""
        return self.container("", slot=slot, secret=secret, disk_gb=1, internet=False).endpoint

    def container(
        self, container_id: str, *, slot: int, secret: str, disk_gb: int, internet: bool
    ) -> Container:
        """A container that exists only as this value."""
        nowhere = Path("/nonexistent")
        return Container(
            id=container_id,
            slot=Slot(slot, f"fake-{slot}", nowhere, "127.0.0.1", "127.0.0.1"),
            cgroup=cgroups.Cgroup((nowhere,)),
            bundle=nowhere,
            secret=secret,
            disk_gb=disk_gb,
            internet=internet,
        )

    def adopt(self, container: Container) -> None:
        """Make this the entry's container."""
        self.table[container.id].container = container

    async def statuses(self) -> dict[str, str]:
        """The status of every entry."""
        return {name: entry.status for name, entry in self.table.items()}

    async def remove_leftovers(self, keep: Collection[Container]) -> None:
        """Remove the other entries, and all files in ``tmp``."""
        names = {container.id for container in keep}
        for name in set(self.table) - names:
            await self.destroy(self.table[name].container)
        for path in self.layout.tmp.iterdir():
            shutil.rmtree(path)

    def kill(self, name: str) -> None:
        """Let a container die, as if its process had ended."""
        entry = self.table[name]
        entry.status = ContainerStatus.STOPPED
        entry.container.died.set()

    def _entry(self, container: Container, *statuses: ContainerStatus) -> FakeContainer:
        entry = self.table.get(container.id)
        if entry is None or entry.status not in statuses:
            status = "gone" if entry is None else entry.status
            raise RuntimeFault(f"container {container.id} is {status}, not {' or '.join(statuses)}")
        return entry
