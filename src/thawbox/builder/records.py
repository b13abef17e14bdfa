"""The rows of a template and its builds, from the request to the end of a build. Call each inside a write."""

from __future__ import annotations

from thawbox.snapshots.manifest import Version
from thawbox.store import builds, templates
from thawbox.store.builds import BuildRow
from thawbox.store.connection import Connection
from thawbox.store.enums import BuildStatus, TemplateStatus
from thawbox.store.templates import TemplateRow
from thawbox.templates.recipe import Recipe

from .timings import BuildTimings


async def template_to_build(
    connection: Connection, organization_id: int | None, recipe: Recipe, existing: TemplateRow | None
) -> int:
    """Have a template whose status is ``building``: the existing one, or a new one. Returns its id."""
    if existing is not None:
        await templates.update(connection, existing.id, status=TemplateStatus.BUILDING, error_message=None)
        return existing.id
    template = await templates.create(
        connection,
        organization_id=organization_id,
        name=recipe.name,
        cpu=recipe.cpu,
        memory_mb=recipe.memory_mb,
        disk_gb=recipe.disk_gb,
    )
    return template.id


async def end_waiting(connection: Connection, template_id: int, reason: str) -> None:
    """End the template's builds that wait in the queue, as failed."""
    for row in await builds.with_status(connection, BuildStatus.QUEUED):
        if row.template_id == template_id:
            await builds.finish(connection, row.id, status=BuildStatus.FAILED, error_message=reason)


async def publish(connection: Connection, row: BuildRow, version: Version, timings: BuildTimings) -> None:
    """The build succeeded: from now on, sandboxes of the template start from ``version``."""
    await builds.finish(connection, row.id, status=BuildStatus.ACTIVE, timings=timings.to_json())
    await templates.update(
        connection,
        row.template_id,
        status=TemplateStatus.ACTIVE,
        error_message=None,
        snapshot_key=version.key,
        cpu=version.cpu,
        memory_mb=version.memory_mb,
        disk_gb=version.disk_gb,
    )


async def fail(connection: Connection, row: BuildRow, message: str) -> None:
    """The build failed. A public template that was built before stays active with its old version."""
    await builds.finish(connection, row.id, status=BuildStatus.FAILED, error_message=message)
    status = TemplateStatus.FAILED
    if row.organization_id == builds.CATALOGUE:
        before = await templates.get(connection, row.template_id)
        status = TemplateStatus.ACTIVE if before and before.snapshot_key else TemplateStatus.FAILED
    await templates.update(connection, row.template_id, status=status, error_message=message)
