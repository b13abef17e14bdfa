"""From an image, or from a copy of a sandbox's memory, to a version that sandboxes thaw from.

Both go the same way: have the programs in the state that sandboxes start from, write their memory, thaw it once to
prove that it works, and only then write the manifest.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawbox import guest, ids
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import BuildError, GuestFault, MachineDiskFull, RuntimeFault
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container, while_alive
from thawbox.node.runtime import Runtime
from thawbox.util import atomic, full_disk

from . import manifest as versions
from .manifest import Snapshot, Version
from .start import introduce, root_of, start_program

Note = Callable[[str], None]
"""Called with a line of text after each stage."""
_PROOF_S = 30.0
"""How long the proof's program may take; it does nothing."""


async def freeze(node: Runtime, version: Version, *, note: Note = lambda text: None) -> Version:
    """Boot the version's image, run its start command until it is ready, and make that the version's snapshot.

    Returns the version with its snapshot; the manifest is written. Snapshots that the version had before are removed.

    Raises:
        BuildError: the start command or the ready check failed.
        RuntimeFault, GuestFault, NoCapacity: the runtime failed, or the snapshot does not work; the manifest is as
            it was before.
    """

    async def bring_to_start(container: Container) -> None:
        try:
            await introduce(container.endpoint, hostname="sandbox", template_env=version.env, env={})
            if version.start_cmd is not None:
                note(f"start command: {version.start_cmd}")
            await start_program(container.endpoint, version)
            await guest.quiesce(container.endpoint)
        except guest.GuestError as error:
            raise BuildError(f"the template does not start: {error}") from error

    return await _freeze(node, version, node.agent_image, bring_to_start, note=note)


async def freeze_copy(
    node: Runtime, version: Version, memory: Path, *, agent_image: Path, internet: bool
) -> Version:
    """Make the copy ``memory`` of a sandbox's frozen memory the version's snapshot, without what only the sandbox knew.

    The copy is thawed beside the sandbox, and its agent forgets all secrets and variables; that is frozen again.
    ``agent_image`` is the agent's image that ``memory`` was frozen with, ``internet`` whether the sandbox has internet.

    Returns the version with its snapshot; the manifest is written.

    Raises:
        RuntimeFault, GuestFault, NoCapacity: it did not work; there is no manifest.
    """

    async def cleanse(container: Container) -> None:
        try:
            await introduce(
                container.endpoint, hostname="sandbox"
            )  # no trace of the sandbox's id in /etc/hosts
            await guest.renew(container.endpoint)
        except guest.GuestError as error:
            raise GuestFault(f"the agent inside cannot be restarted with empty memory: {error}") from error

    return await _freeze(node, version, agent_image, cleanse, memory=memory, internet=internet)


async def save_memory(
    node: Runtime, container: Container, folder: Path, *, durable: bool = True, leave_running: bool = True
) -> None:
    """Write the container's memory to ``folder``, which is there afterwards with all of it or not at all.

    ``durable``: it outlives a power cut. ``leave_running``: the container goes on, or stays frozen if it was.

    Raises:
        MachineDiskFull: there is no room for it.
        RuntimeFault: it did not work.
    """
    half_made = node.layout.tmp / f"memory-{secrets.token_hex(8)}"
    try:
        await node.checkpoint(container, half_made, leave_running=leave_running)
        if durable:
            await asyncio.to_thread(atomic.sync, half_made)
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        half_made.rename(folder)
    except OSError as error:  # a full disk, or a runtime that says it wrote what is not there
        if full_disk.is_full_disk(error):
            raise MachineDiskFull from error
        raise RuntimeFault(f"the memory of {container.id} is not on disk: {error}") from error
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, half_made, ignore_errors=True))


async def _freeze(
    node: Runtime,
    version: Version,
    agent_image: Path,
    prepare: Callable[[Container], Coroutine[Any, Any, None]],
    *,
    memory: Path | None = None,
    internet: bool = True,
    note: Note = lambda text: None,
) -> Version:
    """Boot the image, or thaw ``memory``; ``prepare`` what runs then, and freeze that as the version's snapshot."""
    unproven = node.layout.tmp / f"memory-{secrets.token_hex(8)}"
    try:
        began = time.monotonic()
        async with node.running(
            ids.sandbox_id(),
            root=root_of(node, version),
            limits=_limits(version),
            disk_gb=version.disk_gb,
            memory=memory,
            agent_image=agent_image,
            internet=internet,
        ) as container:
            try:
                await while_alive(container, prepare(container))
            except (RuntimeFault, GuestFault) as error:
                if version.from_sandbox or not container.out_of_memory:
                    raise
                raise BuildError(
                    f"out of memory: the start command needs more than the template's {version.memory_mb} MB"
                ) from error
            note(f"booted and ready in {time.monotonic() - began:.1f} s")
            began = time.monotonic()
            # The image stays, so what is lost of its snapshot is made again; a sandbox's memory is nowhere else.
            await save_memory(node, container, unproven, durable=version.from_sandbox, leave_running=False)
        size_mb = sum(file.stat().st_size for file in unproven.iterdir()) / 1e6
        note(f"memory snapshot of {size_mb:.0f} MB in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        await _prove(node, version, unproven, agent_image=agent_image, internet=internet)
        note(f"thawed once to prove it: {time.monotonic() - began:.2f} s")
        return _publish(node, version, unproven, agent_image)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, unproven, ignore_errors=True))


async def _prove(node: Runtime, version: Version, memory: Path, *, agent_image: Path, internet: bool) -> None:
    """Thaw ``memory`` as a sandbox does, and run a program in it.

    Raises:
        RuntimeFault, GuestFault: it does not thaw, or runs no program.
    """
    name = "saved" if version.from_sandbox else "thawed"
    async with node.running(
        ids.sandbox_id(),
        root=root_of(node, version),
        limits=_limits(version),
        disk_gb=version.disk_gb,
        memory=memory,
        agent_image=agent_image,
        internet=internet,
    ) as container:
        try:
            done = await while_alive(container, _run_program(container, version))
        except guest.GuestError as error:
            raise GuestFault(f"the agent in the {name} template refuses: {error}") from error
    if done.exit_code != 0:
        raise RuntimeFault(f"the {name} template cannot run a program: {done.stderr[-500:]!r}")


async def _run_program(container: Container, version: Version) -> guest.Completed:
    await introduce(container.endpoint, hostname="sandbox", template_env=version.env, env={})
    return await guest.run(container.endpoint, argv=[*INTERPRETER_ARGV, "-c", "pass"], timeout=_PROOF_S)


def _publish(node: Runtime, version: Version, proven: Path, agent_image: Path) -> Version:
    name = f"memory-{secrets.token_hex(8)}"
    folder = versions.folder_of(node.layout, version.key)
    folder.mkdir(exist_ok=True, mode=0o700)
    proven.rename(folder / name)
    frozen = replace(
        version, snapshot=Snapshot(folder=name, runsc_sha256=node.digest, agent_image=agent_image.name)
    )
    versions.save(node.layout, frozen)
    for older in folder.glob(
        "memory-*"
    ):  # of other builds of runsc; a thaw that has one open goes on with it
        if older.name != name:
            shutil.rmtree(older, ignore_errors=True)
    return frozen


def _limits(version: Version) -> ResourceLimits:
    return ResourceLimits(cpu=version.cpu, memory_mb=version.memory_mb)
