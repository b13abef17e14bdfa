"""From a template's version to a running sandbox: thaw, or cold boot."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping

from thawbox import ids, metrics
from thawbox.errors import (
    BuildError,
    Forbidden,
    InternalFault,
    RuntimeFault,
    TemplateNotReady,
    ThawboxError,
)
from thawbox.guest.client import GuestError
from thawbox.node.cgroups import Limits
from thawbox.node.container import Container, Greeting
from thawbox.settings import Settings
from thawbox.store import sandboxes as rows
from thawbox.store import templates
from thawbox.store.connection import Connection
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.templates import version as versions
from thawbox.templates.version import Version

from . import memory
from .home import Home, log
from .start import introduce, root_of, start_program


async def register(
    home: Home,
    organization_id: int,
    template: TemplateRow,
    *,
    timeout_seconds: int | None,
    internet_access: bool,
    live: bool,
    public_ports: tuple[int, ...] | bool,
) -> tuple[SandboxRow, Version]:
    """The row of a new sandbox, which from now on keeps its version's files from being retired by an update.

    Raises:
        TemplateNotReady: the template has no version yet.
        Forbidden: the organisation has as many sandboxes as it may.
    """
    async with home.database.write() as connection:
        await check_limit(connection, home.settings, organization_id, 1)
        version = _version_of(home, await templates.get(connection, template.id), template)
        now = time.time()
        row = SandboxRow(
            id=ids.sandbox_id(),
            organization_id=organization_id,
            template_id=template.id,
            template_name=template.name,
            snapshot_key=version.key,
            status="creating",
            cpu=version.cpu,
            memory_mb=version.memory_mb,
            disk_gb=version.disk_gb,
            internet_access=internet_access,
            live=live,
            public_ports=public_ports,
            secret="",
            agent_image=version.memory.agent_image if version.memory else home.node.agent_image.name,
            timeout_seconds=timeout_seconds,
            expires_at=None if timeout_seconds is None else now + timeout_seconds,
            created_at=now,
        )
        await rows.insert(connection, row)
    home.events.publish("created", row)
    return row, version


async def check_limit(connection: Connection, settings: Settings, organization_id: int, wanted: int) -> None:
    """Refuse ``wanted`` more sandboxes if the organisation may not have so many.

    Raises:
        Forbidden: with limit, current and available in its details.
    """
    limit = settings.max_sandboxes
    if not limit:
        return
    current = await rows.count(connection, organization_id)
    if current + wanted > limit:
        raise Forbidden(
            f"The limit of {limit} sandboxes is reached: delete one, or raise THAWBOX_MAX_SANDBOXES",
            details={"limit": limit, "current": current, "available": max(0, limit - current)},
        )


def _version_of(home: Home, now: TemplateRow | None, asked: TemplateRow) -> Version:
    if now is None:
        raise TemplateNotReady(f"Template '{asked.name}' was deleted meanwhile")
    if now.snapshot_key is None:
        raise TemplateNotReady(f"Template '{now.name}' is {now.status}: wait until its status is active")
    version = versions.load(home.node.layout, now.snapshot_key)
    if version is None:
        raise InternalFault(f"the files of template '{now.name}' are gone: build it again with update")
    if version.from_sandbox and not _fits(home, version):
        raise TemplateNotReady(
            f"Template '{now.name}' was saved from a sandbox by another build of the runtime and cannot be "
            "restored by this one: save it again"
        )
    return version


async def bring_up(home: Home, row: SandboxRow, version: Version, env: Mapping[str, str]) -> SandboxRow:
    """Make a registered sandbox run; its agent answers when this returns.

    Raises:
        SandboxNotFound: it was deleted meanwhile; nothing of it is left.
        NoCapacity, RuntimeFault: it did not work; nothing but the row is left.
    """
    began = time.perf_counter()
    async with home.starting:
        # In the first message, not after a ping: each round trip costs milliseconds right after a thaw.
        greet = functools.partial(introduce, hostname=row.id, template_env=version.env, env=env)
        container, path = await _container_for(home, row, version, greet)
        try:
            if path == "cold":
                await start_program(container.endpoint, version)
            timings = {**container.timings, "total": round((time.perf_counter() - began) * 1000, 2)}
            running = await home.change(
                row.id,
                status="running",
                slot=container.slot.index,
                secret=container.secret,
                boot_path=path,
                timings=timings,
            )
        except (GuestError, BuildError) as error:
            await asyncio.shield(home.node.destroy(container))
            raise RuntimeFault(f"the sandbox did not start: {error}") from error
        except BaseException:
            await asyncio.shield(home.node.destroy(container))
            raise
    home.hold(container)
    metrics.SANDBOX_CREATE_SECONDS.labels(path=path).observe(time.perf_counter() - began)
    return running


async def _container_for(
    home: Home, row: SandboxRow, version: Version, greet: Greeting
) -> tuple[Container, str]:
    folder = versions.memory_path(home.node.layout, version)
    if folder is not None and _fits(home, version):
        try:
            return await memory.thaw_into(home, row, folder, greet), "created"
        except ThawboxError as error:
            metrics.RESTORE_FAILURES.inc()
            log.error("restore_failed", sandbox_id=row.id, snapshot=version.key, error=error.message)
            if version.from_sandbox:
                raise  # what it is lies in its memory alone
    assert row.agent_image is not None
    container = await home.node.create(
        row.id,
        root=root_of(home.node, version),
        limits=Limits(cpu=row.cpu, memory_mb=row.memory_mb),
        disk_gb=version.disk_gb,
        agent_image=home.node.layout.runtime / row.agent_image,
        hostname=row.id,
        internet=row.internet_access,
    )
    try:
        await home.node.boot(container, greet)
    except BaseException:
        await asyncio.shield(home.node.destroy(container))
        raise
    return container, "cold"


def _fits(home: Home, version: Version) -> bool:
    return version.memory is not None and version.memory.runsc_sha256 == home.node.digest
