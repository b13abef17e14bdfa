"""A template made of a sandbox, with the memory and the files that it has now.

The template must not have what only the sandbox was given (its secret, its variables). ``freeze_copy`` sees to that.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from dataclasses import replace

import sqlalchemy as sa

from thawbox.errors import AliasExists, SandboxNotFound
from thawbox.snapshots.freeze import freeze_copy
from thawbox.snapshots.manifest import Version
from thawbox.store import sandboxes as rows
from thawbox.store import templates
from thawbox.store.enums import TemplateStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow

from . import memory
from .context import SandboxContext


async def save(context: SandboxContext, sandbox_id: str, name: str, description: str) -> TemplateRow:
    """Make an active template of the sandbox as it is now; the sandbox goes on.

    The template belongs to the sandbox's organisation.

    Raises:
        AliasExists: the organisation has a template of that name.
        InvalidState: the sandbox neither runs nor is paused.
        SandboxNotFound: it was deleted.
        NoCapacity, RuntimeFault, GuestFault: it did not work; no template is made.
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
            assert row.agent_image is not None
            async with context.starting:
                saved = await freeze_copy(
                    context.node,
                    replace(version, key=key, from_sandbox=True),
                    copied,
                    agent_image=context.node.layout.runtime / row.agent_image,
                    internet=row.internet_access,
                )
            return await _publish(context, row, saved, name, description)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, copied, ignore_errors=True))


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
