"""A node of the benchmark's own: the same image and runtime as the server's, without server, database and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from thawbox import guest, ids
from thawbox import log as logs
from thawbox.agent_image import MOUNT_POINT
from thawbox.node import cgroups, installed, reaper, spec
from thawbox.node import opening as node_open
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container
from thawbox.node.containers import Node
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.freeze import freeze
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.start import introduce, root_of

from .server import Server, snapshot_key

Laps = dict[str, float]
"""stage -> milliseconds; ``total`` is all"""


@dataclass(frozen=True, slots=True)
class Local:
    """A node, and a template's version on it with a memory snapshot of the node's own."""

    node: Node
    version: Version

    async def thaw(self) -> Laps:
        """Create, restore, greet the agent, run `true`: what the server does, and nothing else."""
        memory = versions.snapshot_path(self.node.layout, self.version)
        assert memory is not None
        return await self._first_command(memory)

    async def boot(self) -> Laps:
        """The same without a snapshot: the agent is started."""
        return await self._first_command(None)

    async def runsc_run(self) -> Laps:
        """``runsc run`` of /bin/true on the same image with the same flags; it ends when the container is gone."""
        async with self._plain_bundle(["/bin/true"]) as (name, bundle):
            argv = self.node.runsc._argv("run", f"--bundle={bundle}", name, upper_gb=self.version.disk_gb)
            began = time.perf_counter()
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            status = await process.wait()
            took = _ms(began)
        if status != 0:
            raise RuntimeError(f"runsc run ended with status {status}")
        return {"total": took}

    @contextlib.asynccontextmanager
    async def booted(self) -> AsyncIterator[Container]:
        """A sandbox that was booted cold, for as long as the block."""
        async with self.node.running(
            ids.sandbox_id(),
            root=root_of(self.node, self.version),
            limits=self._limits,
            disk_gb=self.version.disk_gb,
        ) as container:
            await introduce(container.endpoint, hostname=container.id, template_env=self.version.env, env={})
            yield container

    @contextlib.asynccontextmanager
    async def sleeping(self) -> AsyncIterator[cgroups.Cgroup]:
        """A plain runsc container that runs `sleep`, without our agent; yields the cgroup that it is in."""
        async with self._plain_bundle(["/bin/sleep", "infinity"]) as (name, bundle):
            node = self.node
            group = cgroups.create(node.cgroup_parent, name, self._limits)
            try:
                await node.runsc.create(
                    name,
                    bundle,
                    secret="",
                    cgroup_files=group.join_files,
                    upper_gb=self.version.disk_gb,
                )
                reaper.expect(group.pids())
                await node.runsc.start(name)
                yield group
            finally:
                await node.runsc.delete(name)
                await asyncio.to_thread(cgroups.remove, group)

    @property
    def _limits(self) -> ResourceLimits:
        return ResourceLimits(cpu=self.version.cpu, memory_mb=self.version.memory_mb)

    async def _first_command(self, memory: Path | None) -> Laps:
        node = self.node
        name = ids.sandbox_id()
        greet = functools.partial(introduce, hostname=name, template_env=self.version.env, env={})
        began = time.perf_counter()
        container = await node.create(
            name,
            root=root_of(node, self.version),
            limits=self._limits,
            disk_gb=self.version.disk_gb,
            hostname=name,
        )
        try:
            if memory is None:
                await node.boot(container, greet)
            else:
                await node.thaw(container, memory, greet)
            laps, lap = dict(container.timings), time.perf_counter()
            done = await guest.run(container.endpoint, shell="true", timeout=30)
            laps["first command"] = _ms(lap)
            laps["total"] = _ms(began)
        finally:
            await asyncio.shield(node.destroy(container))
        if done.exit_code != 0:
            raise RuntimeError(f"`true` ended with status {done.exit_code}: {done.stderr[-200:]!r}")
        return laps

    @contextlib.asynccontextmanager
    async def _plain_bundle(self, argv: list[str]) -> AsyncIterator[tuple[str, Path]]:
        """A bundle like a sandbox's, with another program and without the agent's image."""
        node = self.node
        name = ids.sandbox_id()
        bundle = node.layout.bundles / name
        slot = await node.slots.acquire()
        try:
            spec.write_bundle(
                bundle,
                root=root_of(node, self.version),
                agent_image=node.agent_image,
                netns=slot.netns,
                hostname="plain",
                binds={"/run/thawbox": node.layout.runtime / "host"},
            )
            config = json.loads((bundle / "config.json").read_text())
            config["process"]["args"] = argv
            config["process"]["env"] = ["PATH=/usr/local/bin:/usr/bin:/bin"]
            config["mounts"] = [one for one in config["mounts"] if one["destination"] != MOUNT_POINT]
            (bundle / "config.json").write_text(json.dumps(config))
            yield name, bundle
        finally:
            shutil.rmtree(bundle, ignore_errors=True)
            for leftover in node.layout.upper.glob(f"*{name}*"):
                leftover.unlink(missing_ok=True)
            await node.slots.release(slot)


@contextlib.asynccontextmanager
async def opened(server: Server, template_id: str) -> AsyncIterator[Local]:
    """A node on a state folder of its own beside the server's, with the template frozen once more for it."""
    settings = server.settings
    version = versions.load(server.layout, await snapshot_key(settings, template_id))
    assert version is not None
    with tempfile.TemporaryDirectory(prefix="thawbox-bench-node-", dir=server.layout.state.parent) as folder:
        own = settings.model_copy(
            update={
                "state": Path(folder),
                "runsc": installed.installed_runsc(settings),
                "agent_image": installed.agent_image(settings),
                "log_level": "error",
            }
        )
        logs.configure(own)
        node = await node_open.open_node(own)
        try:
            os.link(versions.image_path(server.layout, version), node.layout.images / version.image)
            yield Local(node, await freeze(node, version))
        finally:
            await node.remove_leftovers(keep=())
            await node_open.close_node(node, keep=False)


def _ms(since: float) -> float:
    return round((time.perf_counter() - since) * 1000, 2)
