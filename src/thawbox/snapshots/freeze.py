"""From layers to a version that sandboxes thaw from: image, boot, start command, checkpoint, proof."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from thawbox import guest, ids
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import BuildError, GuestFault, RuntimeFault
from thawbox.node.cgroups import Limits
from thawbox.node.containers import Container, Node, while_alive

from . import manifest as versions
from .manifest import Snapshot, Version
from .start import introduce, root_of, start_program


async def freeze(node: Node, version: Version, *, note: Callable[[str], None] = lambda text: None) -> Version:
    """Boot the version's image, bring it to its start state, freeze it, and prove that it thaws.

    Returns the version with its memory; the manifest is written. ``note`` hears what is going on.

    Raises:
        BuildError: the start command or the ready check failed.
        RuntimeFault: the runtime failed.
    """
    half_made = node.layout.tmp / f"memory-{secrets.token_hex(8)}"
    limits = Limits(cpu=version.cpu, memory_mb=version.memory_mb)
    root = root_of(node, version)
    try:
        began = time.monotonic()
        async with node.running(
            ids.sandbox_id(), root=root, limits=limits, disk_gb=version.disk_gb
        ) as container:
            try:
                await while_alive(container, _bring_to_start(container, version, note))
            except guest.GuestError as error:
                raise BuildError(f"the template does not start: {error}") from error
            except (RuntimeFault, GuestFault) as error:
                if not container.out_of_memory:
                    raise
                raise BuildError(
                    f"out of memory: the start command needs more than the template's {version.memory_mb} MB"
                ) from error
            note(f"booted and ready in {time.monotonic() - began:.1f} s")
            began = time.monotonic()
            await node.runsc.checkpoint(container.id, half_made)
        size_mb = sum(file.stat().st_size for file in half_made.iterdir()) / 1e6
        note(f"memory snapshot of {size_mb:.0f} MB in {time.monotonic() - began:.1f} s")
        await _prove(node, version, half_made, note)
        name = f"memory-{secrets.token_hex(8)}"
        versions.folder_of(node.layout, version.key).mkdir(exist_ok=True, mode=0o700)
        half_made.rename(versions.folder_of(node.layout, version.key) / name)
        frozen = replace(
            version,
            snapshot=Snapshot(folder=name, runsc_sha256=node.runsc.digest, agent_image=node.agent_image.name),
        )
        versions.save(node.layout, frozen)
        _remove_other_memories(node, frozen)
        return frozen
    finally:
        await asyncio.to_thread(shutil.rmtree, half_made, ignore_errors=True)


async def _bring_to_start(container: Container, version: Version, note: Callable[[str], None]) -> None:
    await introduce(container.endpoint, hostname="sandbox", template_env=version.env, env={})
    if version.start_cmd is not None:
        note(f"start command: {version.start_cmd}")
    await start_program(container.endpoint, version)
    await guest.quiesce(container.endpoint)


async def _prove(node: Node, version: Version, memory: Path, note: Callable[[str], None]) -> None:
    began = time.monotonic()
    async with node.running(
        ids.sandbox_id(),
        root=root_of(node, version),
        limits=Limits(cpu=version.cpu, memory_mb=version.memory_mb),
        disk_gb=version.disk_gb,
        memory=memory,
    ) as container:
        done = await guest.run(container.endpoint, argv=[*INTERPRETER_ARGV, "-c", "pass"], timeout=30)
        if done.exit_code != 0:
            raise RuntimeFault(f"the thawed template cannot run a program: {done.stderr[-500:]!r}")
    note(f"thawed once to prove it: {time.monotonic() - began:.2f} s")


def _remove_other_memories(node: Node, version: Version) -> None:
    """Memory snapshots of older runtimes; a thaw that has one open goes on with it."""
    assert version.snapshot is not None
    for folder in versions.folder_of(node.layout, version.key).glob("memory-*"):
        if folder.name != version.snapshot.folder:
            shutil.rmtree(folder, ignore_errors=True)
