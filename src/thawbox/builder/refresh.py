"""Makes snapshots again after runsc was replaced: memory restores only with the build of runsc that froze it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from thawbox import log as logs
from thawbox.errors import BuildError, ThawboxError
from thawbox.node.runtime import Runtime
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.freeze import freeze
from thawbox.snapshots.pins import Pins
from thawbox.store import templates
from thawbox.store.database import Database

log = logs.get(__name__)


async def refresh_snapshots(
    node: Runtime, database: Database, pins: Pins, once: Callable[[str], AbstractAsyncContextManager[None]]
) -> None:
    """Freeze every template's version again whose snapshot the installed runsc does not restore, one by one.

    Until then, sandboxes of the template boot cold. ``once(key)`` locks a version against builds of the same one.
    Versions saved from sandboxes cannot be made again; creating a sandbox of one fails with the reason.
    A version that does not freeze is logged and passed over.
    """
    async with database.read() as connection:
        keys = sorted(await templates.snapshot_keys(connection))
    for key in keys:
        version = versions.load(node.layout, key)
        if version is None or version.from_sandbox or version.thaws_with(node.digest):
            continue
        try:
            async with once(key):
                log.info("snapshot_made_again", snapshot=key)
                with pins.holder() as pin:
                    pin(key)
                    pin(version.image)
                    await freeze(node, version)
        except (BuildError, ThawboxError) as error:
            log.error("snapshot_not_made_again", snapshot=key, error=str(error))
