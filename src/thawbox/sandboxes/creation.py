"""From a template's version to a running sandbox: claimed from a pool, thawed, or booted cold."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from thawbox import guest, metrics
from thawbox.errors import BuildError, GuestFault, RuntimeFault, ThawboxError
from thawbox.guest import GuestError
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container, Greeting
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.start import introduce, root_of, start_program
from thawbox.store.enums import BootPath, SandboxStatus
from thawbox.store.sandboxes import SandboxRow

from . import capacity, memory
from .context import SandboxContext, log
from .registration import CreateRequest, VersionReplaced, check_limit, register

CLAIM_TIMEOUT_S = 2.0
"""How long a container from a pool may take to answer before the next one is tried."""


async def claim_ready(context: SandboxContext, request: CreateRequest) -> SandboxRow | None:
    """Make a sandbox of a container that waits thawed in a pool; None if there is none.

    A request without internet access gets none of these: while the container waited, its programs could have opened
    connections.

    Raises:
        TemplateNotReady, Forbidden: as ``register``; nothing is left.
    """
    key = request.template.snapshot_key
    if key is None or not request.internet_access:
        return None
    if context.settings.max_sandboxes:  # requests beyond the limit must not empty the pools
        async with context.database.read() as connection:
            await check_limit(connection, context.settings, request.organization_id, 1)
    while (container := context.pools.claim(key, thawed=True)) is not None:
        began = time.perf_counter()
        try:
            await context.node.greet(
                container,
                functools.partial(
                    guest.init, env=request.env, entropy=secrets.token_bytes(64), timeout=CLAIM_TIMEOUT_S
                ),
            )
        except (RuntimeFault, GuestError, GuestFault) as error:
            log.warning("pool_member_unusable", container=container.id, error=str(error))
            await asyncio.shield(context.node.destroy(container))
            continue
        except BaseException:
            await asyncio.shield(context.node.destroy(container))
            raise
        context.pools.record_request(key, found=True)
        return await _assign(context, request, container, began)
    context.pools.record_request(key, found=False)
    return None


async def _assign(
    context: SandboxContext, request: CreateRequest, container: Container, began: float
) -> SandboxRow | None:
    container.timings.clear()
    container.timings["init"] = container.timings["total"] = round((time.perf_counter() - began) * 1000, 2)
    async with context.operations.lock(container.id):
        context.track(container)
        try:
            row, _ = await register(context, request, container, thawed=True)
        except BaseException as error:
            await asyncio.shield(context.destroy(container.id))
            if isinstance(error, VersionReplaced):
                return None
            raise
    metrics.SANDBOX_CREATE_SECONDS.labels(path=BootPath.WARM).observe(time.perf_counter() - began)
    return row


async def create(
    context: SandboxContext, request: CreateRequest, *, undo: Callable[[str], Awaitable[None]]
) -> SandboxRow:
    """Make a sandbox, from a pool's shell if one waits. If that fails, ``undo`` is awaited with the sandbox's id.

    Raises:
        TemplateNotReady, Forbidden: as ``register``; nothing is left.
        NoCapacity, RuntimeFault: it did not work; nothing is left.
    """
    await capacity.ensure(context)
    key = request.template.snapshot_key
    shell = None if key is None else context.pools.claim(key, thawed=False)
    shells = [] if shell is None else [shell]  # whatever is still in this list at the end is destroyed
    try:
        try:
            row, version = await register(context, request, shell)
        except VersionReplaced:
            await asyncio.shield(context.node.destroy(shells.pop()))
            row, version = await register(context, request)
        try:
            return await context.operations.run(
                row.id, lambda: bring_up(context, row, version, request.env, shells)
            )
        except BaseException:
            await asyncio.shield(undo(row.id))
            raise
    finally:
        for unused in shells:
            await asyncio.shield(context.node.destroy(unused))


async def bring_up(
    context: SandboxContext,
    row: SandboxRow,
    version: Version,
    env: Mapping[str, str],
    shells: list[Container],
) -> SandboxRow:
    """Bring up a registered sandbox; when this returns it is running and its agent answers.

    ``shells``: empty, or one created container, which is taken out of the list when it is used.

    Raises:
        SandboxNotFound: it was deleted meanwhile; nothing of it is left.
        NoCapacity, RuntimeFault: it did not work; only the row is left.
    """
    began = time.perf_counter()
    async with context.starting:
        # In the first message, not after a ping: each round trip costs milliseconds right after a thaw.
        greet = functools.partial(introduce, hostname=row.id, template_env=version.env, env=env)
        container, path = await _container_for(context, row, version, greet, shells)
        try:
            if path == BootPath.COLD:
                await start_program(container.endpoint, version)
            timings = {**container.timings, "total": round((time.perf_counter() - began) * 1000, 2)}
            running = await context.update(
                row.id,
                status=SandboxStatus.RUNNING,
                slot=container.slot.index,
                secret=container.secret,
                boot_path=path,
                timings=timings,
            )
        except (GuestError, BuildError) as error:
            await asyncio.shield(context.node.destroy(container))
            raise RuntimeFault(f"the sandbox did not start: {error}") from error
        except BaseException:
            await asyncio.shield(context.node.destroy(container))
            raise
    context.track(container)
    metrics.SANDBOX_CREATE_SECONDS.labels(path=path).observe(time.perf_counter() - began)
    return running


async def _container_for(
    context: SandboxContext, row: SandboxRow, version: Version, greet: Greeting, shells: list[Container]
) -> tuple[Container, BootPath]:
    folder = versions.snapshot_path(context.node.layout, version)
    if folder is not None and version.thaws_with(context.node.digest):
        try:
            if shells:
                return await _thaw_shell(context, row, shells.pop(), folder, greet), BootPath.SHELL
            return await memory.thaw_into(context, row, folder, greet), BootPath.CREATED
        except ThawboxError as error:
            metrics.RESTORE_FAILURES.inc()
            log.error("restore_failed", sandbox_id=row.id, snapshot=version.key, error=error.message)
            if version.from_sandbox:
                raise  # its image alone is not what was saved
    assert row.agent_image is not None
    container = await context.node.create(
        row.id,
        root=root_of(context.node, version),
        limits=ResourceLimits(cpu=row.cpu, memory_mb=row.memory_mb),
        disk_gb=version.disk_gb,
        agent_image=context.node.layout.runtime / row.agent_image,
        hostname=row.id,
        internet=row.internet_access,
    )
    try:
        await context.node.boot(container, greet)
    except BaseException:
        await asyncio.shield(context.node.destroy(container))
        raise
    return container, BootPath.COLD


async def _thaw_shell(
    context: SandboxContext, row: SandboxRow, shell: Container, folder: Path, greet: Greeting
) -> Container:
    try:
        if not row.internet_access:
            shell = await context.node.cut_off(shell)
        await context.node.thaw(shell, folder, greet)
    except BaseException:
        await asyncio.shield(context.node.destroy(shell))
        raise
    return shell
