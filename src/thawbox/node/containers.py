"""One machine's containers. Each consists of a network slot, a cgroup, a bundle and a container of runsc.

``Node.create`` makes all four or leaves nothing. ``Node.destroy`` frees all four, whatever state they are in, and may
be called again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from thawbox import guest
from thawbox import log as logs
from thawbox.errors import RuntimeFault
from thawbox.state import Layout

from . import cgroups, firewall, gvisor, leftovers, programs, reaper, spec
from .container import AGENT_PORT, Container, Greeting, while_alive
from .slots import Slots

log = logs.get(__name__)

BOOT_TIMEOUT_S = 30.0
"""How long a started or restored container's agent may take to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The ``runtime.Runtime`` of this machine, by gVisor. ``opening.open_node`` makes it."""

    runsc: gvisor.Runsc
    layout: Layout
    slots: Slots
    cgroup_parent: str
    table: str
    """name of the node's nftables table"""
    agent_image: Path
    """for new snapshots and build steps; older snapshots name the one they need"""
    _watches: dict[str, Callable[[], None]] = field(default_factory=dict)
    """container id -> function that stops watching it"""

    @property
    def digest(self) -> str:
        """SHA-256 of runsc. Only the build that made a snapshot can restore it."""
        return self.runsc.digest

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
        """Create a container in which no program runs yet: ``boot`` or ``thaw`` it next.

        Raises:
            RuntimeFault, NoCapacity: it did not work; nothing is left.
        """
        clock = _Clock()
        slot = await self.slots.acquire()
        clock.lap("slot")
        made = Container(
            id=container_id,
            slot=slot,
            cgroup=cgroups.of(self.cgroup_parent, container_id),
            bundle=self.layout.bundles / container_id,
            secret=secrets.token_hex(32),
            disk_gb=disk_gb,
            internet=internet,
            timings=clock.laps,
        )
        try:
            cgroups.create(self.cgroup_parent, container_id, limits)
            spec.write_bundle(
                made.bundle,
                root=root,
                agent_image=agent_image or self.agent_image,
                netns=slot.netns,
                hostname=hostname,
                binds={"/run/thawbox": self.layout.runtime / "host"},
            )
            if not internet:
                await firewall.set_offline(self.table, slot.device, offline=True)
            clock.lap("prepare")
            await self.runsc.create(
                container_id,
                made.bundle,
                secret=made.secret,
                cgroup_files=made.cgroup.join_files,
                upper_gb=disk_gb,
            )
            self.watch(made)
            clock.lap("create")
        except BaseException:
            await asyncio.shield(self.destroy(made))
            raise
        return made

    def watch(self, container: Container) -> None:
        """Set its ``died`` when it ends, and kill all of it when it is out of memory."""
        pids = container.cgroup.pids()
        reaper.expect(pids)
        main = gvisor.pid_of(container.bundle)
        loop = asyncio.get_running_loop()
        stop_oom = cgroups.kill_on_oom(container.cgroup, loop, container.oom_killed.set)
        waiter = loop.create_task(_set_at_death(container.died, main))

        def stop() -> None:
            waiter.cancel()
            stop_oom()

        self._watches[container.id] = stop

    async def greet(self, container: Container, greet: Greeting) -> None:
        """Send a first request to the agent of a running container.

        Raises:
            RuntimeFault: the container died.
            GuestError, GuestFault: the agent reports an error, or does not answer.
        """
        await while_alive(container, greet(container.endpoint))

    async def cut_off(self, container: Container) -> Container:
        """Cut the container off from the internet. Returns its new description.

        Raises:
            RuntimeFault: it did not work; the container still reaches the internet.
        """
        await firewall.set_offline(self.table, container.slot.device, offline=True)
        return replace(container, internet=False)

    async def boot(self, container: Container, greet: Greeting | None = None) -> None:
        """Start the created container's agent and wait until it answers (``greet``, if given).

        Raises:
            RuntimeFault: it does not answer in time; the caller must destroy the container.
        """
        clock = _Clock(container.timings)
        await self.runsc.start(container.id)
        clock.lap("start")
        await self._wait(container, greet)
        clock.lap("agent")

    async def thaw(self, container: Container, memory: Path, greet: Greeting | None = None) -> None:
        """Load the snapshot in the folder ``memory`` into the created container and wait until the agent answers.

        Raises:
            RuntimeFault: it did not work; the caller must destroy the container.
        """
        clock = _Clock(container.timings)
        await self.runsc.restore(container.id, container.bundle, memory, upper_gb=container.disk_gb)
        clock.lap("restore")
        await self._wait(container, greet)
        clock.lap("agent")

    def endpoint(self, slot: int, secret: str) -> guest.Endpoint:
        """The address of the agent of the container in that slot."""
        return guest.Endpoint(self.slots.network.slot(slot).guest_address, AGENT_PORT, secret)

    def container(
        self, container_id: str, *, slot: int, secret: str, disk_gb: int, internet: bool
    ) -> Container:
        """The description of a container that runs already in that slot. It is not looked up."""
        return Container(
            id=container_id,
            slot=self.slots.network.slot(slot),
            cgroup=cgroups.of(self.cgroup_parent, container_id),
            bundle=self.layout.bundles / container_id,
            secret=secret,
            disk_gb=disk_gb,
            internet=internet,
        )

    def adopt(self, container: Container) -> None:
        """Take over a container that an earlier server left running."""
        self.slots.adopt(container.slot.index)
        self.watch(container)

    async def statuses(self) -> dict[str, str]:
        """The containers of this state folder: id -> running, paused, stopped …"""
        return await self.runsc.statuses()

    async def freeze(self, container: Container) -> None:
        """Stop all its programs; memory, network and connections stay."""
        await self.runsc.pause(container.id)

    async def unfreeze(self, container: Container) -> None:
        """Let its programs continue. The clock inside is right at once."""
        await self.runsc.resume(container.id)

    async def checkpoint(self, container: Container, folder: Path, *, leave_running: bool = True) -> None:
        """See ``Runtime.checkpoint``."""
        await self.runsc.checkpoint(container.id, folder, leave_running=leave_running)

    async def tar_upper(self, container: Container, destination: Path) -> None:
        """See ``Runtime.tar_upper``."""
        await self.runsc.tar_upper(container.id, destination)

    async def end_programs(self, container: Container) -> None:
        """End every program inside except the agent, as a shutdown does: SIGTERM, then SIGKILL.

        Raises:
            RuntimeFault, GuestFault, GuestError: the container died, or a program does not end.
        """
        await while_alive(container, programs.end_all(container.endpoint))

    async def remove_leftovers(self, keep: Collection[Container]) -> None:
        """Remove what earlier servers left on this machine, except what ``keep`` uses."""
        await leftovers.remove_leftovers(
            self.runsc, self.layout, self.slots.network, self.cgroup_parent, keep=keep
        )

    async def destroy(self, container: Container) -> None:
        """Kill the container and free its resources. It may be called again."""
        stop_watching = self._watches.pop(container.id, None)
        if stop_watching is not None:
            stop_watching()
        await self.runsc.delete(container.id)
        await asyncio.to_thread(cgroups.remove, container.cgroup)
        await asyncio.to_thread(shutil.rmtree, container.bundle, ignore_errors=True)
        for leftover in self.layout.upper.glob(f"*{container.id}*"):
            leftover.unlink(missing_ok=True)
        if not container.internet:
            await firewall.set_offline(self.table, container.slot.device, offline=False)
        await self.slots.release(container.slot)

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
        """A container for the duration of the block: booted, or thawed if ``memory`` is given."""
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

    async def _wait(self, container: Container, greet: Greeting | None) -> None:
        endpoint = container.endpoint
        first_request = None if greet is None else functools.partial(greet, endpoint)
        try:
            await while_alive(container, guest.wait_ready(endpoint, BOOT_TIMEOUT_S, first_request))
        except Exception as error:
            console = container.bundle / "console"
            output = console.read_text(errors="replace")[-2000:] if console.exists() else ""
            raise RuntimeFault(f"the agent in {container.id} does not answer: {error}; {output}") from error


async def _set_at_death(died: asyncio.Event, pid: int | None) -> None:
    if pid is not None:
        await reaper.exited(pid)
    died.set()


class _Clock:
    """Measures the time from one ``lap`` to the next, in milliseconds, by name."""

    def __init__(self, laps: dict[str, float] | None = None) -> None:
        self.laps = {} if laps is None else laps
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round((now - self._last) * 1000, 2)
        self._last = now
