"""Forks: copies of a sandbox that run independently of it.

A copy has the source's memory, files, programs and environment. It gets its own id, host name, secret, token and
entropy. Open connections to the outside are not copied.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from thawbox import ids
from thawbox.errors import SandboxNotFound
from thawbox.snapshots.start import introduce
from thawbox.store import sandboxes as rows
from thawbox.store.enums import BootPath, SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from . import memory
from .context import SandboxContext
from .registration import check_limit


async def fork(
    context: SandboxContext,
    sandbox_id: str,
    count: int,
    *,
    env: Mapping[str, str],
    timeout_seconds: int | None,
    undo: Callable[[str], Awaitable[None]],
) -> list[SandboxRow]:
    """Make ``count`` running copies. If one does not come up, ``undo`` is awaited with the id of each of them.

    Raises:
        InvalidState: the source is neither running nor paused.
        Forbidden: the organisation may not have that many more sandboxes.
        SandboxNotFound: the source, or a copy, was deleted meanwhile.
        NoCapacity, RuntimeFault: it did not work; no copy is left.
    """
    folder = context.node.layout.tmp / f"fork-{secrets.token_hex(8)}"
    copies: list[SandboxRow] = []
    try:

        async def take_copy() -> None:
            source = await context.row(sandbox_id)
            await memory.copy(context, source, folder)
            copies.extend(await _register(context, source, count, timeout_seconds))

        await context.operations.run(sandbox_id, take_copy)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_bring_up(context, row, folder, env)) for row in copies]
        return [task.result() for task in tasks]
    except BaseException as error:
        for row in copies:
            await asyncio.shield(undo(row.id))
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from error
        raise
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


async def _register(
    context: SandboxContext, source: SandboxRow, count: int, timeout_seconds: int | None
) -> list[SandboxRow]:
    now = time.time()
    made = [
        replace(
            source,
            id=ids.sandbox_id(),
            status=SandboxStatus.CREATING,
            reason=None,
            slot=None,
            secret="",
            memory=None,
            memory_runsc=None,
            paused_at=None,
            boot_path=None,
            timings=None,
            timeout_seconds=timeout_seconds,
            expires_at=None if timeout_seconds is None else now + timeout_seconds,
            created_at=now,
            token_expires_at=0.0,
        )
        for _ in range(count)
    ]
    async with context.database.write() as connection:
        if await rows.get(connection, source.id) is None:
            raise SandboxNotFound("Sandbox not found")
        await check_limit(connection, context.settings, source.organization_id, count)
        for row in made:
            await rows.insert(connection, row)
    for row in made:
        context.events.publish("created", row)
    return made


async def _bring_up(
    context: SandboxContext, row: SandboxRow, folder: Path, env: Mapping[str, str]
) -> SandboxRow:
    return await context.operations.run(row.id, lambda: _thaw(context, row, folder, env))


async def _thaw(context: SandboxContext, row: SandboxRow, folder: Path, env: Mapping[str, str]) -> SandboxRow:
    greet = functools.partial(introduce, hostname=row.id, env_add=env)
    async with context.starting:
        container = await memory.thaw_into(context, row, folder, greet)
    try:
        running = await context.update(
            row.id,
            status=SandboxStatus.RUNNING,
            slot=container.slot.index,
            secret=container.secret,
            boot_path=BootPath.FORK,
            timings=container.timings,
        )
    except BaseException:
        await asyncio.shield(context.node.destroy(container))
        raise
    context.track(container)
    return running
