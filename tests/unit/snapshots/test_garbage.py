"""What nobody refers to goes, and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from thawbox.snapshots import garbage, layers, manifest
from thawbox.snapshots.garbage import (
    GarbageReport,
    collect,
    remove_old_agents,
    remove_unreferenced_uploads,
    retire_versions,
)
from thawbox.snapshots.manifest import Snapshot, Version
from thawbox.snapshots.pins import Pins
from thawbox.state import Layout
from thawbox.store import builds, organizations, sandboxes, schema, templates, uploads
from thawbox.store.database import Database
from thawbox.store.enums import BuildStatus, SandboxStatus, UploadKind
from thawbox.store.sandboxes import SandboxRow


@pytest.fixture
async def organization(database: Database) -> int:
    async with database.write() as c:
        return (await organizations.create(c, "one")).id


def version(layout: Layout, key: str, *, image: str, made_of: tuple[str, ...] = (), agent: str = "a") -> None:
    """A version on disk, with its image."""
    folder = layout.snapshots / key / "memory-1"
    folder.mkdir(parents=True)
    (folder / "pages.img").write_bytes(b"x" * 10_000)
    (layout.images / image).write_bytes(b"x" * 5_000)
    snapshot = Snapshot(folder="memory-1", runsc_sha256="r", agent_image=agent)
    manifest.save(
        layout,
        Version(key=key, image=image, layers=made_of, cpu=1, memory_mb=256, disk_gb=1, snapshot=snapshot),
    )


def layer(layout: Layout, name: str) -> None:
    (layout.tmp / "layer" / "fs").mkdir(parents=True)
    layers.publish(layout, name, layout.tmp / "layer", {})


async def template(database: Database, organization: int, key: str | None) -> int:
    async with database.write() as c:
        made = await templates.create(
            c, organization_id=organization, name=f"t-{key}", cpu=1, memory_mb=256, disk_gb=1
        )
        await templates.update(c, made.id, snapshot_key=key)
    return made.id


async def sandbox(database: Database, organization: int, key: str, *, agent: str | None = None) -> None:
    async with database.write() as c:
        made = await templates.create(
            c, organization_id=organization, name=f"of-{key}", cpu=1, memory_mb=256, disk_gb=1
        )
        row = SandboxRow(
            id=f"sb-{key}",
            organization_id=organization,
            template_id=made.id,
            template_name=made.name,
            snapshot_key=key,
            status=SandboxStatus.PAUSED,
            cpu=1,
            memory_mb=256,
            disk_gb=1,
            internet_access=True,
            live=True,
            public_ports=(),
            secret="",
            timeout_seconds=None,
            expires_at=None,
            created_at=time.time(),
            agent_image=agent,
        )
        await sandboxes.insert(c, row)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_versions_that_are_referred_to_stay(
    layout: Layout, database: Database, organization: int
) -> None:
    pins = Pins()
    for key in ("template", "sandbox", "pinned", "nobody"):
        version(layout, key, image=f"{key}.erofs")
    await template(database, organization, "template")
    await sandbox(database, organization, "sandbox")
    with pins.holder() as pin:
        pin("pinned")
        freed = await retire_versions(layout, database, pins)
        assert names(layout.snapshots) == {"template", "sandbox", "pinned"}
        assert names(layout.images) == {"template.erofs", "sandbox.erofs", "pinned.erofs"}
    assert freed.removed == {"snapshots": 1, "images": 1}
    assert freed.bytes >= 15_000
    assert (await retire_versions(layout, database, pins)).removed == {"snapshots": 1, "images": 1}
    assert names(layout.snapshots) == {"template", "sandbox"}


async def test_an_image_stays_while_a_version_a_layer_or_work_needs_it(
    layout: Layout, database: Database, organization: int
) -> None:
    pins = Pins()
    version(layout, "old", image="shared.erofs")
    version(layout, "new", image="shared.erofs")
    await template(database, organization, "new")
    layer(layout, "base1")
    for image in ("base-base1.erofs", "base-gone.erofs", "under-way.erofs"):
        (layout.images / image).touch()
    with pins.holder() as pin:
        pin("under-way.erofs")
        freed = await retire_versions(layout, database, pins)
    assert freed.removed == {"snapshots": 1, "images": 1}
    assert names(layout.images) == {"shared.erofs", "base-base1.erofs", "under-way.erofs"}


async def test_nothing_is_looked_at_while_another_template_refers_to_the_version(
    layout: Layout, database: Database, organization: int
) -> None:
    version(layout, "shared", image="shared.erofs")
    version(layout, "nobody", image="nobody.erofs")
    await template(database, organization, "shared")
    assert await retire_versions(layout, database, Pins(), of="shared") == GarbageReport()
    assert names(layout.snapshots) == {"shared", "nobody"}
    assert (await retire_versions(layout, database, Pins(), of="nobody")).removed["snapshots"] == 1


async def test_a_folder_without_manifest_goes_too(
    layout: Layout, database: Database, organization: int
) -> None:
    (layout.snapshots / "half-removed" / "memory-1").mkdir(parents=True)
    assert (await retire_versions(layout, database, Pins())).removed == {"snapshots": 1, "images": 0}
    assert names(layout.snapshots) == set()


def blob(layout: Layout, name: str, *, age_s: float = 3600) -> None:
    path = layout.uploads / name
    path.write_bytes(b"x" * 5_000)
    os.utime(path, (time.time() - age_s,) * 2)


async def test_uploads_stay_for_their_row_for_waiting_builds_and_for_a_moment(
    layout: Layout, database: Database, organization: int
) -> None:
    for name in ("named", "waiting", "running", "of-an-ended-build", "forgotten", "arriving.part"):
        blob(layout, name)
    blob(layout, "new", age_s=0)
    async with database.write() as c:
        row = await uploads.announce(c, organization_id=organization, name="a", kind=UploadKind.FILE, size=1)
        await uploads.complete(c, row.file_id, blob="named", size=1)
    for name in ("of-an-ended-build", "running", "waiting"):
        number = await template(database, organization, name)
        files = {"1": {"kind": "file", "blobs": {"a": name}}}
        async with database.write() as c:
            await builds.create(
                c, template_id=number, organization_id=organization, recipe={"recipe": {}, "files": files}
            )
            if name != "waiting":
                claimed = await builds.claim_next(c)
                assert claimed is not None
            if name == "of-an-ended-build":
                assert claimed is not None
                await builds.finish(c, claimed.id, status=BuildStatus.FAILED)
    freed = await remove_unreferenced_uploads(layout, database)
    assert freed.removed == {"uploads": 2}
    assert freed.bytes >= 10_000
    assert names(layout.uploads) == {"named", "waiting", "running", "arriving.part", "new"}


def agents(layout: Layout, *letters: str) -> None:
    for letter in letters:
        (layout.runtime / f"agent-{letter}.erofs").write_bytes(b"x" * 5_000)


def passed(layout: Layout, agent: str) -> None:
    (layout.runtime / "selftest.json").write_text(json.dumps({"agent": agent}))


async def test_agents_of_versions_and_sandboxes_and_of_servers_now_and_next_stay(
    layout: Layout, database: Database, organization: int
) -> None:
    agents(layout, "version", "sandbox", "now", "next", "nobody")
    (layout.runtime / "runsc").touch()
    passed(layout, "agent-next.erofs")
    version(layout, "k", image="k.erofs", agent="agent-version.erofs")
    await template(database, organization, "k")
    await sandbox(database, organization, "s", agent="agent-sandbox.erofs")
    freed = await remove_old_agents(layout, database, "agent-now.erofs")
    assert freed.removed == {"agents": 1}
    assert freed.bytes >= 5_000
    assert names(layout.runtime) == {"runsc", "selftest.json"} | {
        f"agent-{letter}.erofs" for letter in ("version", "sandbox", "now", "next")
    }


async def test_no_agent_goes_while_nobody_knows_which_one_is_next(layout: Layout, database: Database) -> None:
    agents(layout, "old", "new")
    assert (await remove_old_agents(layout, database, "agent-new.erofs")).removed == {"agents": 0}
    passed(layout, "agent-new.erofs")
    assert (await remove_old_agents(layout, database, None)).removed == {"agents": 1}
    assert names(layout.runtime) == {"agent-new.erofs", "selftest.json"}


async def test_all_of_it_at_once(layout: Layout, database: Database, organization: int) -> None:
    pins = Pins()
    for name in ("used", "unused", "pinned"):
        layer(layout, name)
        (layout.images / f"base-{name}.erofs").touch()
    version(layout, "k", image="k.erofs", made_of=("used",))
    version(layout, "old", image="old.erofs", made_of=("unused",))
    number = await template(database, organization, "k")
    for name in (f"{number}.1.log", f"{number}.steps.json", "999.1.log"):
        (layout.logs / name).touch()
    (layout.cache / "packages").mkdir()
    (layout.cache / "packages" / "one.deb").write_bytes(b"x" * 5_000)
    (layout.cache / "index").touch()
    await ended_build(database, organization, number)
    agents(layout, "now", "old")
    passed(layout, "agent-now.erofs")
    blob(layout, "forgotten")
    with pins.holder() as pin:
        pin("pinned")
        freed = await collect(layout, database, pins, "agent-now.erofs")
    assert freed.removed == {
        "snapshots": 1,
        "images": 2,
        "layers": 1,
        "uploads": 1,
        "logs": 1,
        "builds": 1,
        "agents": 1,
    }
    assert names(layout.layers) == {"index", "used", "pinned"}
    assert names(layout.images) == {"k.erofs", "base-used.erofs", "base-pinned.erofs"}
    assert names(layout.logs) == {f"{number}.1.log", f"{number}.steps.json"}
    assert names(layout.cache) == set()
    assert freed.bytes >= 10_000 + 4 * 5_000


async def ended_build(database: Database, organization: int, template_id: int) -> None:
    """An old build, and a newer one of the same template that stays."""
    ids: list[int] = []
    for _ in range(2):
        async with database.write() as c:
            made = await builds.create(
                c, template_id=template_id, organization_id=organization, recipe={"files": {}}
            )
            await builds.finish(c, made.id, status=BuildStatus.FAILED)
            ids.append(made.id)
    long_ago = time.time() - garbage.BUILDS_KEPT_S - 60
    async with database.write() as c:
        await c.execute(
            sa.update(schema.builds).where(schema.builds.c.id == ids[0]).values(completed_at=long_ago)
        )


def test_what_was_freed_adds_up() -> None:
    assert GarbageReport({"a": 1}, 10) + GarbageReport({"b": 2, "a": 3}, 5) == GarbageReport(
        {"a": 4, "b": 2}, 15
    )
    assert GarbageReport() + GarbageReport() == GarbageReport()
