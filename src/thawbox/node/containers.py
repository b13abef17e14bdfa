"""One machine's containers: slot, cgroup, bundle and runsc container as one thing with one owner.

``Node.create`` either gives a container that holds all four, or leaves nothing; ``Node.destroy`` gives all four
back, in whatever state they are, and may be repeated.
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

__all__ = ["Container", "Greeting", "Node", "while_alive"]

BOOT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What it takes to run containers on this machine."""

    runsc: gvisor.Runsc
    layout: Layout
    slots: Slots
    cgroup_parent: str
    table: str
    """name of our nftables table"""
    agent_image: Path
    """for new snapshots and build steps; older snapshots name their own"""
    _watches: dict[str, Callable[[], None]] = field(default_factory=dict)
    """container id -> how to stop watching it"""

    @property
    def digest(self) -> str:
        """Of the runtime's build; memory restores with the very build that froze it."""
        return self.runsc.digest

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
        """Everything up to the point where memory is loaded or the first process starts.

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
        """Notice its death (``died``), and kill the whole of it when it is out of memory."""
        pids = container.cgroup.pids()
        reaper.expect(pids)
        main = gvisor.pid_of(container.bundle)
        loop = asyncio.get_running_loop()
        stop_oom = cgroups.kill_on_oom(container.cgroup, loop, container.starved.set)
        waiter = loop.create_task(_set_at_death(container.died, main))

        def stop() -> None:
            waiter.cancel()
            stop_oom()

        self._watches[container.id] = stop

    async def greet(self, container: Container, greet: Greeting) -> None:
        """Say something to the agent of a running container.

        Raises:
            RuntimeFault: it died.
            GuestError, GuestFault: it refused, or did not answer.
        """
        await while_alive(container, greet(container.endpoint))

    async def cut_off(self, container: Container) -> Container:
        """The same container without internet."""
        await firewall.set_offline(self.table, container.slot.device, offline=True)
        return replace(container, internet=False)

    async def boot(self, container: Container, greet: Greeting | None = None) -> None:
        """Start the created container's agent and wait until it answers (to ``greet``, if given).

        Raises:
            RuntimeFault: it did not come up in time; the caller destroys it.
        """
        clock = _Clock(container.timings)
        await self.runsc.start(container.id)
        clock.lap("start")
        await self._wait(container, greet)
        clock.lap("agent")

    async def thaw(self, container: Container, memory: Path, greet: Greeting | None = None) -> None:
        """Load a memory snapshot into the created container and wait until the agent answers.

        Raises:
            RuntimeFault: it did not; the caller destroys it.
        """
        clock = _Clock(container.timings)
        await self.runsc.restore(container.id, container.bundle, memory, upper_gb=container.disk_gb)
        clock.lap("restore")
        await self._wait(container, greet)
        clock.lap("agent")

    def endpoint(self, slot: int, secret: str) -> guest.Endpoint:
        """Where the agent of the container in that slot listens."""
        return guest.Endpoint(self.slots.network.slot(slot).guest_address, AGENT_PORT, secret)

    def container(
        self, container_id: str, *, slot: int, secret: str, disk_gb: int, internet: bool
    ) -> Container:
        """The container with this id, which runs already and holds that slot. Nothing is asked or changed."""
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
        """Take over what an earlier server left running."""
        self.slots.adopt(container.slot.index)
        self.watch(container)

    async def statuses(self) -> dict[str, str]:
        """All containers on this machine that are ours: id -> running, paused, stopped …"""
        return await self.runsc.statuses()

    async def freeze(self, container: Container) -> None:
        """Stop every program where it is; memory, network and connections stay."""
        await self.runsc.pause(container.id)

    async def unfreeze(self, container: Container) -> None:
        """Let them go on; the clock inside is right at once."""
        await self.runsc.resume(container.id)

    async def checkpoint(self, container: Container, folder: Path, *, leave_running: bool = True) -> None:
        """Write its memory and changed files into the new folder.

        It goes on after that, or stays frozen; without ``leave_running`` it ends.

        Raises:
            RuntimeFault: it did not work; what is in the folder is of no use.
        """
        await self.runsc.checkpoint(container.id, folder, leave_running=leave_running)

    async def tar_upper(self, container: Container, destination: Path) -> None:
        """Write what the running container changed in its root as a tar file in overlayfs form.

        Raises:
            RuntimeFault: it did not work.
        """
        await self.runsc.tar_upper(container.id, destination)

    async def end_programs(self, container: Container) -> None:
        """End every program inside except the agent, as a shutdown does.

        Raises:
            RuntimeFault, GuestFault, GuestError: the container died, or its agent does not do it.
        """
        await while_alive(container, programs.end_all(container.endpoint))

    async def remove_leftovers(self, keep: Collection[Container]) -> None:
        """Remove what an earlier server left on this machine, except for ``keep``."""
        await leftovers.remove_leftovers(self, keep=keep)

    async def destroy(self, container: Container) -> None:
        """Kill it and give back all that it holds."""
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
        limits: cgroups.Limits,
        disk_gb: int,
        memory: Path | None = None,
        agent_image: Path | None = None,
        internet: bool = True,
    ) -> AsyncIterator[Container]:
        """A container that lives as long as the block: booted, or thawed if ``memory`` is given."""
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
        ask = None if greet is None else functools.partial(greet, endpoint)
        try:
            await while_alive(container, guest.wait_ready(endpoint, BOOT_TIMEOUT_S, ask))
        except Exception as error:
            console = container.bundle / "console"
            said = console.read_text(errors="replace")[-2000:] if console.exists() else ""
            raise RuntimeFault(f"the agent in {container.id} does not answer: {error}; {said}") from error


async def _set_at_death(died: asyncio.Event, pid: int | None) -> None:
    if pid is not None:
        await reaper.exited(pid)
    died.set()


class _Clock:
    """Names the time between calls."""

    def __init__(self, laps: dict[str, float] | None = None) -> None:
        self.laps = {} if laps is None else laps
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round((now - self._last) * 1000, 2)
        self._last = now
