"""A sandbox's memory and files on disk: saving them there, and thawing the sandbox from them.

The row names the folder that counts. The folder is complete before the row names it, and the container is destroyed
after that. So whatever interrupts this, either the container or the folder is the sandbox.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from pathlib import Path

from thawbox import log as logs
from thawbox import metrics
from thawbox.errors import InvalidState, MachineDiskFull, RuntimeFault
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container, Greeting
from thawbox.snapshots.freeze import save_memory
from thawbox.snapshots.manifest import restores
from thawbox.snapshots.start import root_of
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxChanges, SandboxRow

from .context import SandboxContext
from .states import in_words

log = logs.get(__name__)

THAWS = 2
"""Attempts to thaw. About one restore in a thousand fails in gVisor and then works (google/gvisor#11842)."""


class DoesNotRestore(RuntimeFault):
    """There was a container, but the memory could not be restored into it."""


async def to_disk(context: SandboxContext, row: SandboxRow, *, stopped: bool = False) -> SandboxRow:
    """Move the sandbox's memory to disk and free its container.

    ``stopped``: the same write sets the sandbox's status to stopped.

    Raises:
        RuntimeFault: it did not work; the sandbox is as it was.
        SandboxNotFound: it was deleted meanwhile.
    """
    began = time.perf_counter()
    name = secrets.token_hex(8)
    folder = context.memory_folder(row.id) / name
    changes: SandboxChanges = {
        "memory": name,
        "memory_runsc": context.node.digest,
        "slot": None,
        "secret": "",
    }
    if stopped:
        changes |= {"status": SandboxStatus.STOPPED, "paused_at": None}
    try:
        await save_memory(context.node, context.containers[row.id], folder)
        changed = await context.update(row.id, **changes)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        raise
    await context.destroy(row.id)
    await context.remove_memory(row.id, keep=name)
    metrics.SANDBOX_FREEZE_SECONDS.observe(time.perf_counter() - began)
    return changed


async def copy(context: SandboxContext, row: SandboxRow, folder: Path) -> None:
    """Copy the sandbox's present memory into the new ``folder``; the sandbox stays as it is.

    Raises:
        InvalidState: it is neither running nor paused, or its memory on disk cannot be used.
        RuntimeFault: it did not work.
    """
    if row.status not in (SandboxStatus.RUNNING, SandboxStatus.PAUSED):
        raise InvalidState(
            f"Sandbox {row.id} is {in_words(row.status)}: only one that is running or paused can be copied."
        )
    if row.memory is None:
        await save_memory(context.node, context.containers[row.id], folder)
        return
    if (trouble := unusable(context, row)) is not None:
        raise await _fail_restore(context, row, trouble)
    # Links are enough: nothing writes to these files again.
    source = context.memory_folder(row.id) / row.memory
    await asyncio.to_thread(shutil.copytree, source, folder, copy_function=os.link)


async def from_disk(context: SandboxContext, row: SandboxRow, greet: Greeting) -> Container:
    """Return a running container with the sandbox's memory; the caller tracks it or destroys it.

    Raises:
        InvalidState: the memory does not restore; the sandbox is in error now, with the reason in its row.
        NoCapacity, RuntimeFault: there is no container for it; the sandbox is as it was.
    """
    if (trouble := unusable(context, row)) is not None:
        raise await _fail_restore(context, row, trouble)
    assert row.memory is not None
    for attempt in range(1, THAWS + 1):
        try:
            async with context.starting:
                return await thaw_into(context, row, context.memory_folder(row.id) / row.memory, greet)
        except DoesNotRestore as error:
            metrics.RESTORE_FAILURES.inc()
            log.error("restore_failed", sandbox_id=row.id, attempt=attempt, error=error.message)
    raise await _fail_restore(context, row, "its memory on disk does not restore")


async def thaw_into(context: SandboxContext, row: SandboxRow, memory: Path, greet: Greeting) -> Container:
    """Return a new running container for ``row`` with the memory in that folder; the caller holds ``starting``.

    Raises:
        DoesNotRestore: the memory could not be restored; nothing is left.
        RuntimeFault, NoCapacity: there is no container for it; nothing is left.
    """
    assert row.agent_image is not None
    container = await context.node.create(
        row.id,
        root=root_of(context.node, context.version(row)),
        limits=ResourceLimits(cpu=row.cpu, memory_mb=row.memory_mb),
        disk_gb=row.disk_gb,
        agent_image=context.node.layout.runtime / row.agent_image,
        hostname=row.id,
        internet=row.internet_access,
    )
    try:
        await context.node.thaw(container, memory, greet)
    except MachineDiskFull:  # the memory itself is good
        await asyncio.shield(context.node.destroy(container))
        raise
    except RuntimeFault as error:
        await asyncio.shield(context.node.destroy(container))
        raise DoesNotRestore(error.message) from error
    except BaseException:
        await asyncio.shield(context.node.destroy(container))
        raise
    return container


def unusable(context: SandboxContext, row: SandboxRow) -> str | None:
    """Why the memory on disk cannot be thawed, as far as that can be known without trying; None: nothing is wrong."""
    if row.memory is None or not (context.memory_folder(row.id) / row.memory).is_dir():
        return "its memory on disk is gone"
    if not restores(row.memory_runsc, context.node.digest):
        return (
            f"it was {row.status} by another build of the runtime, and memory restores only with the one that "
            f"froze it (sha256 {(row.memory_runsc or '')[:12]}); install that one, or delete the sandbox"
        )
    return None


async def _fail_restore(context: SandboxContext, row: SandboxRow, reason: str) -> InvalidState:
    # The folder stays until the sandbox is deleted: a server with the right runtime can restore it.
    await context.update(row.id, status=SandboxStatus.ERROR, reason=reason)
    return InvalidState(f"Sandbox {row.id} cannot be resumed: {reason}.")
