"""A sandbox's memory and files on disk: putting them there, and thawing it from them.

The row says which folder counts. It is complete before the row names it, and the container goes only after that:
so whatever stops us in the middle, either the container or the folder is the sandbox.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from thawbox import log as logs
from thawbox import metrics
from thawbox.errors import InvalidState, MachineDiskFull, RuntimeFault
from thawbox.node.cgroups import Limits
from thawbox.node.container import Container, Greeting
from thawbox.snapshots.freeze import save_memory
from thawbox.snapshots.manifest import restores
from thawbox.snapshots.start import root_of
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from .context import Home
from .states import in_words

log = logs.get(__name__)

THAWS = 2
"""Attempts. gVisor has had restores that fail once in a thousand (google/gvisor#11842)."""


class DoesNotRestore(RuntimeFault):
    """A container was there, but the memory did not come to life in it."""


async def to_disk(home: Home, row: SandboxRow, **fields: Any) -> SandboxRow:
    """Move the sandbox's memory to disk and free its container; ``fields`` are set in the same moment.

    Raises:
        RuntimeFault: it did not work; the sandbox is as it was.
        SandboxNotFound: it was deleted meanwhile.
    """
    began = time.perf_counter()
    name = secrets.token_hex(8)
    folder = home.folder(row.id) / name
    try:
        await save_memory(home.node, home.held[row.id], folder)
        changed = await home.change(
            row.id, memory=name, memory_runsc=home.node.digest, slot=None, secret="", **fields
        )
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        raise
    await home.destroy(row.id)
    await home.keep_only(row.id, name)
    metrics.SANDBOX_FREEZE_SECONDS.observe(time.perf_counter() - began)
    return changed


async def copy(home: Home, row: SandboxRow, folder: Path) -> None:
    """Put the sandbox's memory as it is now into the new ``folder``; the sandbox stays as it is.

    Raises:
        InvalidState: it neither runs nor is paused, or its memory on disk is of no use.
        RuntimeFault: it did not work.
    """
    if row.status not in (SandboxStatus.RUNNING, SandboxStatus.PAUSED):
        raise InvalidState(
            f"Sandbox {row.id} is {in_words(row.status)}: only one that is running or paused can be copied."
        )
    if row.memory is None:
        await save_memory(home.node, home.held[row.id], folder)
        return
    if (trouble := unusable(home, row)) is not None:
        raise await _give_up(home, row, trouble)
    # Links: nothing is ever written to these files again.
    source = home.folder(row.id) / row.memory
    await asyncio.to_thread(shutil.copytree, source, folder, copy_function=os.link)


async def from_disk(home: Home, row: SandboxRow, greet: Greeting) -> Container:
    """A running container with the sandbox's memory; the caller holds it or destroys it.

    Raises:
        InvalidState: the memory does not restore; the sandbox is in error now, and says why.
        NoCapacity, RuntimeFault: there is no container to be had; the sandbox is as it was.
    """
    if (trouble := unusable(home, row)) is not None:
        raise await _give_up(home, row, trouble)
    assert row.memory is not None
    for attempt in range(1, THAWS + 1):
        try:
            async with home.starting:
                return await thaw_into(home, row, home.folder(row.id) / row.memory, greet)
        except DoesNotRestore as error:
            metrics.RESTORE_FAILURES.inc()
            log.error("restore_failed", sandbox_id=row.id, attempt=attempt, error=error.message)
    raise await _give_up(home, row, "its memory on disk does not restore")


async def thaw_into(home: Home, row: SandboxRow, memory: Path, greet: Greeting) -> Container:
    """A running container for ``row`` with that memory; one of ``home.starting``'s places is the caller's.

    Raises:
        DoesNotRestore: it is the memory that does not work; nothing is left.
        RuntimeFault, NoCapacity: there is no container to be had; nothing is left.
    """
    assert row.agent_image is not None
    container = await home.node.create(
        row.id,
        root=root_of(home.node, home.version(row)),
        limits=Limits(cpu=row.cpu, memory_mb=row.memory_mb),
        disk_gb=row.disk_gb,
        agent_image=home.node.layout.runtime / row.agent_image,
        hostname=row.id,
        internet=row.internet_access,
    )
    try:
        await home.node.thaw(container, memory, greet)
    except MachineDiskFull:  # the memory is good
        await asyncio.shield(home.node.destroy(container))
        raise
    except RuntimeFault as error:
        await asyncio.shield(home.node.destroy(container))
        raise DoesNotRestore(error.message) from error
    except BaseException:
        await asyncio.shield(home.node.destroy(container))
        raise
    return container


def unusable(home: Home, row: SandboxRow) -> str | None:
    """Why what is on disk cannot be thawed, if one can see that beforehand."""
    if row.memory is None or not (home.folder(row.id) / row.memory).is_dir():
        return "its memory on disk is gone"
    if not restores(row.memory_runsc, home.node.digest):
        return (
            f"it was {row.status} by another build of the runtime, and memory restores only with the one that "
            f"froze it (sha256 {(row.memory_runsc or '')[:12]}); install that one, or delete the sandbox"
        )
    return None


async def _give_up(home: Home, row: SandboxRow, reason: str) -> InvalidState:
    # The folder stays until the sandbox is deleted: with the right runtime it may come back.
    await home.change(row.id, status=SandboxStatus.ERROR, reason=reason)
    return InvalidState(f"Sandbox {row.id} cannot be resumed: {reason}.")
