"""Making a container for a pool: created from a version, then thawed from its snapshot."""

from __future__ import annotations

import contextlib
import functools

from thawbox import guest, ids
from thawbox.guest import GuestError
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container
from thawbox.node.runtime import Runtime
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Version
from thawbox.snapshots.start import introduce, root_of


async def create(node: Runtime, version: Version) -> Container:
    """Create a container for a sandbox of that version, which must have a snapshot. Nothing runs in it yet.

    Raises:
        NoCapacity, RuntimeFault: it did not work; nothing is left.
    """
    assert version.snapshot is not None
    name = ids.sandbox_id()
    return await node.create(
        name,
        root=root_of(node, version),
        limits=ResourceLimits(cpu=version.cpu, memory_mb=version.memory_mb),
        disk_gb=version.disk_gb,
        agent_image=node.layout.runtime / version.snapshot.agent_image,
        hostname=name,
    )


async def thaw(node: Runtime, container: Container, version: Version) -> None:
    """Thaw the version's snapshot into the created container; its agent answers when this returns.

    Raises:
        RuntimeFault, GuestFault: it did not work; the caller destroys the container.
    """
    folder = versions.snapshot_path(node.layout, version)
    assert folder is not None
    greet = functools.partial(introduce, hostname=container.id, template_env=version.env, env={})
    await node.thaw(container, folder, greet)
    # The first program after a thaw takes twice as long as later ones, so run one here. A root may lack /bin/sh.
    with contextlib.suppress(GuestError):
        await node.greet(container, functools.partial(guest.run, argv=["/bin/sh", "-c", ":"], timeout=5))
