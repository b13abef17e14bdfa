"""From a template's version to a running sandbox: thaw, or cold boot."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from thawbox import guest, ids, metrics
from thawbox.errors import (
    BuildError,
    Forbidden,
    GuestFault,
    InternalFault,
    RuntimeFault,
    TemplateNotReady,
    ThawboxError,
)
from thawbox.guest import GuestError
from thawbox.node.cgroups import Limits
from thawbox.node.container import Container, Greeting
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.start import introduce, root_of, start_program
from thawbox.store import sandboxes as rows
from thawbox.store import templates
from thawbox.store.connection import Connection
from thawbox.store.enums import BootPath, SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow

from . import capacity, memory
from .context import Home, log


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants."""

    organization_id: int
    template: TemplateRow
    env: Mapping[str, str]
    timeout_seconds: int | None
    internet_access: bool
    live: bool
    public_ports: tuple[int, ...] | bool


CLAIM_TIMEOUT_S = 2.0
"""Until a sandbox that waited and does not answer is given up for the next."""


async def hand_over(home: Home, wish: Wish) -> SandboxRow | None:
    """A sandbox that waited thawed in a pool; None if there was none.

    Not one that shall have no internet: programs inside could have opened connections while it waited.

    Raises:
        TemplateNotReady, Forbidden: as ``register``; nothing is left.
    """
    key = wish.template.snapshot_key
    if key is None or not wish.internet_access:
        return None
    if home.settings.max_sandboxes:  # whoever may have no more must not empty the pools
        async with home.database.read() as connection:
            await check_limit(connection, home.settings, wish.organization_id, 1)
    while (container := home.pools.claim(key, thawed=True)) is not None:
        began = time.perf_counter()
        try:
            await home.node.greet(
                container,
                functools.partial(
                    guest.init, env=wish.env, entropy=secrets.token_bytes(64), timeout=CLAIM_TIMEOUT_S
                ),
            )
        except (RuntimeFault, GuestError, GuestFault) as error:
            log.warning("pool_member_unusable", container=container.id, error=str(error))
            await asyncio.shield(home.node.destroy(container))
            continue
        except BaseException:
            await asyncio.shield(home.node.destroy(container))
            raise
        home.pools.asked(key, found=True)
        return await _own(home, wish, container, began)
    home.pools.asked(key, found=False)
    return None


async def _own(home: Home, wish: Wish, container: Container, began: float) -> SandboxRow | None:
    container.timings.clear()
    container.timings["init"] = container.timings["total"] = round((time.perf_counter() - began) * 1000, 2)
    async with home.operations.lock(container.id):
        home.hold(container)
        try:
            row, _ = await register(home, wish, container, thawed=True)
        except BaseException as error:
            await asyncio.shield(home.destroy(container.id))
            if isinstance(error, Outdated):
                return None
            raise
    metrics.SANDBOX_CREATE_SECONDS.labels(path=BootPath.WARM).observe(time.perf_counter() - began)
    return row


async def create(home: Home, wish: Wish, *, undo: Callable[[str], Awaitable[None]]) -> SandboxRow:
    """A sandbox that is made for this wish, from a shell if one waits; ``undo`` takes back what is half done.

    Raises:
        TemplateNotReady, Forbidden: as ``register``; nothing is left.
        NoCapacity, RuntimeFault: it did not work; nothing is left.
    """
    await capacity.make(home)
    key = wish.template.snapshot_key
    shell = None if key is None else home.pools.claim(key, thawed=False)
    shells = [] if shell is None else [shell]  # ours as long as it is in there
    try:
        try:
            row, version = await register(home, wish, shell)
        except Outdated:
            await asyncio.shield(home.node.destroy(shells.pop()))
            row, version = await register(home, wish)
        try:
            return await home.operations.run(row.id, lambda: bring_up(home, row, version, wish.env, shells))
        except BaseException:
            await asyncio.shield(undo(row.id))
            raise
    finally:
        for unused in shells:
            await asyncio.shield(home.node.destroy(unused))


async def register(
    home: Home, wish: Wish, container: Container | None = None, *, thawed: bool = False
) -> tuple[SandboxRow, Version]:
    """The row of a new sandbox, which from now on keeps its version's files from being retired by an update.

    ``container``: what a pool had ready for it; with ``thawed`` the sandbox is running then. The row names the
    version that the template has now.

    Raises:
        TemplateNotReady: the template has no version yet.
        Forbidden: the organisation has as many sandboxes as it may.
        Outdated: the container was made for another version than the template has now.
    """
    async with home.database.write() as connection:
        await check_limit(connection, home.settings, wish.organization_id, 1)
        version = _version_of(home, await templates.get(connection, wish.template.id), wish.template)
        if container is not None and version.key != wish.template.snapshot_key:
            raise Outdated
        now = time.time()
        row = SandboxRow(
            id=ids.sandbox_id() if container is None else container.id,
            organization_id=wish.organization_id,
            template_id=wish.template.id,
            template_name=wish.template.name,
            snapshot_key=version.key,
            status=SandboxStatus.RUNNING if thawed else SandboxStatus.CREATING,
            cpu=version.cpu,
            memory_mb=version.memory_mb,
            disk_gb=version.disk_gb,
            internet_access=wish.internet_access,
            live=wish.live,
            public_ports=wish.public_ports,
            slot=container.slot.index if container and thawed else None,
            secret=container.secret if container and thawed else "",
            boot_path=BootPath.WARM if thawed else None,
            timings=container.timings if container and thawed else None,
            agent_image=version.snapshot.agent_image if version.snapshot else home.node.agent_image.name,
            timeout_seconds=wish.timeout_seconds,
            expires_at=None if wish.timeout_seconds is None else now + wish.timeout_seconds,
            created_at=now,
        )
        await rows.insert(connection, row)
    home.events.publish("created", row)
    return row, version


class Outdated(Exception):
    """The template was updated between our look at it and the row."""


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
    if version.from_sandbox and not version.thaws_with(home.node.digest):
        raise TemplateNotReady(
            f"Template '{now.name}' was saved from a sandbox by another build of the runtime and cannot be "
            "restored by this one: save it again"
        )
    return version


async def bring_up(
    home: Home, row: SandboxRow, version: Version, env: Mapping[str, str], shells: list[Container]
) -> SandboxRow:
    """Make a registered sandbox run; its agent answers when this returns.

    ``shells``: a created container for it, which is taken out when it is used, or nothing.

    Raises:
        SandboxNotFound: it was deleted meanwhile; nothing of it is left.
        NoCapacity, RuntimeFault: it did not work; nothing but the row is left.
    """
    began = time.perf_counter()
    async with home.starting:
        # In the first message, not after a ping: each round trip costs milliseconds right after a thaw.
        greet = functools.partial(introduce, hostname=row.id, template_env=version.env, env=env)
        container, path = await _container_for(home, row, version, greet, shells)
        try:
            if path == BootPath.COLD:
                await start_program(container.endpoint, version)
            timings = {**container.timings, "total": round((time.perf_counter() - began) * 1000, 2)}
            running = await home.change(
                row.id,
                status=SandboxStatus.RUNNING,
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
    home: Home, row: SandboxRow, version: Version, greet: Greeting, shells: list[Container]
) -> tuple[Container, BootPath]:
    folder = versions.snapshot_path(home.node.layout, version)
    if folder is not None and version.thaws_with(home.node.digest):
        try:
            if shells:
                return await _thaw_shell(home, row, shells.pop(), folder, greet), BootPath.SHELL
            return await memory.thaw_into(home, row, folder, greet), BootPath.CREATED
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
    return container, BootPath.COLD


async def _thaw_shell(
    home: Home, row: SandboxRow, shell: Container, folder: Path, greet: Greeting
) -> Container:
    try:
        if not row.internet_access:
            shell = await home.node.cut_off(shell)
        await home.node.thaw(shell, folder, greet)
    except BaseException:
        await asyncio.shield(home.node.destroy(shell))
        raise
    return shell
