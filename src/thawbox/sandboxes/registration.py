"""The row of a new sandbox: which version of the template it gets, and whether the organisation may have it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from thawbox import ids
from thawbox.errors import Forbidden, InternalFault, TemplateNotReady
from thawbox.node.container import Container
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.store import sandboxes as rows
from thawbox.store import templates
from thawbox.store.connection import Connection
from thawbox.store.enums import BootPath, SandboxStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow

from .context import SandboxContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """What a client wants; see ``contract.Sandboxes.create``."""

    organization_id: int
    template: TemplateRow
    env: Mapping[str, str]
    timeout_seconds: int | None
    internet_access: bool
    live: bool
    public_ports: tuple[int, ...] | bool


class VersionReplaced(Exception):
    """The template was updated after the request had read it, so the container is of another version."""


async def register(
    context: SandboxContext,
    request: CreateRequest,
    container: Container | None = None,
    *,
    thawed: bool = False,
) -> tuple[SandboxRow, Version]:
    """Insert the row of a new sandbox, with the version that the template has now, and publish the event ``created``.

    As long as the row exists, an update of the template does not remove the version's files.

    ``container``: one from a pool, or None if there is none yet. ``thawed``: it is thawed, so the sandbox is running.

    Raises:
        TemplateNotReady: the template has no version yet.
        Forbidden: the organisation has as many sandboxes as it may have.
        VersionReplaced: the container is of another version than the template has now.
    """
    async with context.database.write() as connection:
        await check_limit(connection, context.settings, request.organization_id, 1)
        current = await templates.get(connection, request.template.id)
        version = _version_of(context, current, request.template)
        if container is not None and version.key != request.template.snapshot_key:
            raise VersionReplaced
        now = time.time()
        row = SandboxRow(
            id=ids.sandbox_id() if container is None else container.id,
            organization_id=request.organization_id,
            template_id=request.template.id,
            template_name=request.template.name,
            snapshot_key=version.key,
            status=SandboxStatus.RUNNING if thawed else SandboxStatus.CREATING,
            cpu=version.cpu,
            memory_mb=version.memory_mb,
            disk_gb=version.disk_gb,
            internet_access=request.internet_access,
            live=request.live,
            public_ports=request.public_ports,
            slot=container.slot.index if container and thawed else None,
            secret=container.secret if container and thawed else "",
            boot_path=BootPath.WARM if thawed else None,
            timings=container.timings if container and thawed else None,
            agent_image=version.snapshot.agent_image if version.snapshot else context.node.agent_image.name,
            timeout_seconds=request.timeout_seconds,
            expires_at=None if request.timeout_seconds is None else now + request.timeout_seconds,
            created_at=now,
        )
        await rows.insert(connection, row)
    context.events.publish("created", row)
    return row, version


async def check_limit(connection: Connection, settings: Settings, organization_id: int, wanted: int) -> None:
    """Check that the organisation may have ``wanted`` more sandboxes.

    Raises:
        Forbidden: it may not; ``details`` has limit, current and available.
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


def _version_of(context: SandboxContext, current: TemplateRow | None, requested: TemplateRow) -> Version:
    if current is None:
        raise TemplateNotReady(f"Template '{requested.name}' was deleted meanwhile")
    if current.snapshot_key is None:
        raise TemplateNotReady(
            f"Template '{current.name}' is {current.status}: wait until its status is active"
        )
    version = versions.load(context.node.layout, current.snapshot_key)
    if version is None:
        raise InternalFault(f"the files of template '{current.name}' are gone: build it again with update")
    if version.from_sandbox and not version.thaws_with(context.node.digest):
        raise TemplateNotReady(
            f"Template '{current.name}' was saved from a sandbox by another build of the runtime and cannot be "
            "restored by this one: save it again"
        )
    return version
