"""A template out of a sandbox, with the memory and the files that it has now.

What was said to the sandbox alone must not be in it: so the copy is thawed aside, its agent begins afresh there with
empty memory, and what that leaves is frozen as the template, and thawed once more to prove it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from thawbox import guest, ids
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import AliasExists, GuestFault, RuntimeFault, SandboxNotFound
from thawbox.node.cgroups import Limits
from thawbox.node.container import Container, while_alive
from thawbox.node.runtime import Runtime
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Memory, Version
from thawbox.snapshots.start import introduce, root_of
from thawbox.store import sandboxes as rows
from thawbox.store import templates
from thawbox.store.enums import TemplateStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow

from . import memory
from .context import SandboxContext


async def save(context: SandboxContext, sandbox_id: str, name: str, description: str) -> TemplateRow:
    """An active template of the sandbox's organisation that is as the sandbox is now; that one goes on.

    Raises:
        AliasExists: the organisation has a template of that name.
        InvalidState: the sandbox neither runs nor is paused.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault, GuestFault: it did not work; nothing but files that nobody needs is left.
    """
    row = await context.row(sandbox_id)
    async with context.database.read() as connection:
        if await templates.get_own(connection, row.organization_id, name) is not None:
            raise _exists(name)
    key = secrets.token_hex(32)
    copied = context.node.layout.tmp / f"save-{secrets.token_hex(8)}"
    with context.pins.holder() as pin:
        pin(key)
        try:

            async def take_copy() -> Version:
                source = await context.row(sandbox_id)
                version = context.version(source)
                pin(version.image)
                await memory.copy(context, source, copied)
                return version

            version = await context.operations.run(sandbox_id, take_copy)
            saved = await _freeze(context, row, replace(version, key=key, from_sandbox=True), copied)
            return await _publish(context, row, saved, name, description)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, copied, ignore_errors=True))


async def _freeze(context: SandboxContext, row: SandboxRow, version: Version, copied: Path) -> Version:
    assert row.agent_image is not None
    name = f"memory-{secrets.token_hex(8)}"
    folder = versions.folder_of(context.node.layout, version.key)
    async with context.starting:
        async with _aside(context.node, row, version, copied) as container:
            await while_alive(container, _cleanse(container))
            await memory.save(context, container, folder / name)
        async with _aside(context.node, row, version, folder / name) as container:
            await while_alive(container, _prove(container, version))
    saved = replace(
        version,
        memory=Memory(folder=name, runsc_sha256=context.node.digest, agent_image=row.agent_image),
    )
    versions.save(context.node.layout, saved)
    return saved


@contextlib.asynccontextmanager
async def _aside(node: Runtime, row: SandboxRow, version: Version, folder: Path) -> AsyncIterator[Container]:
    """That memory in a container that belongs to no sandbox, as long as the block lasts."""
    assert row.agent_image is not None
    container = await node.create(
        ids.sandbox_id(),
        root=root_of(node, version),
        limits=Limits(cpu=row.cpu, memory_mb=row.memory_mb),
        disk_gb=version.disk_gb,
        agent_image=node.layout.runtime / row.agent_image,
        internet=row.internet_access,
    )
    try:
        await node.thaw(container, folder)
        yield container
    finally:
        await asyncio.shield(node.destroy(container))


async def _cleanse(container: Container) -> None:
    try:
        await introduce(container.endpoint, hostname="sandbox")  # no trace of the sandbox's id in /etc/hosts
        await guest.renew(container.endpoint)
    except guest.GuestError as error:
        raise GuestFault(f"the agent inside cannot be made to forget: {error}") from error


async def _prove(container: Container, version: Version) -> None:
    try:
        await introduce(container.endpoint, hostname="sandbox", template_env=version.env, env={})
        done = await guest.run(container.endpoint, argv=[*INTERPRETER_ARGV, "-c", "pass"], timeout=30)
    except guest.GuestError as error:
        raise GuestFault(f"the agent in the saved template refuses: {error}") from error
    if done.exit_code != 0:
        raise RuntimeFault(f"the saved template cannot run a program: {done.stderr[-500:]!r}")


async def _publish(
    context: SandboxContext, row: SandboxRow, version: Version, name: str, description: str
) -> TemplateRow:
    try:
        async with context.database.write() as connection:
            if await rows.get(connection, row.id) is None:
                raise SandboxNotFound("Sandbox not found")
            made = await templates.create(
                connection,
                organization_id=row.organization_id,
                name=name,
                description=description,
                cpu=version.cpu,
                memory_mb=version.memory_mb,
                disk_gb=version.disk_gb,
                status=TemplateStatus.ACTIVE,
            )
            await templates.update(connection, made.id, snapshot_key=version.key)
            return replace(made, snapshot_key=version.key)
    except sa.exc.IntegrityError as error:
        raise _exists(name) from error


def _exists(name: str) -> AliasExists:
    return AliasExists(f"A template with alias '{name}' already exists: choose another name")
