from __future__ import annotations

import re
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from thawbox import ids
from thawbox.store import builds, keys, organizations, sandboxes, schema, templates, uploads
from thawbox.store.builds import BuildRow
from thawbox.store.connection import Connection
from thawbox.store.database import Database
from thawbox.store.enums import BootPath, BuildStatus, SandboxStatus, UploadKind
from thawbox.store.sandboxes import SandboxRow


async def template(c: Connection, organization_id: int | None, name: str) -> int:
    row = await templates.create(
        c, organization_id=organization_id, name=name, cpu=1, memory_mb=512, disk_gb=1
    )
    return row.id


async def queued(c: Connection, organization_id: int, template_id: int) -> BuildRow:
    return await builds.create(
        c,
        template_id=template_id,
        organization_id=organization_id,
        recipe={"name": "x"},
        credentials={"password": "hunter2"},
    )


def sandbox(organization_id: int = 1, **fields: object) -> SandboxRow:
    row = SandboxRow(
        id=ids.sandbox_id(),
        organization_id=organization_id,
        template_id=1,
        template_name="t",
        snapshot_key="k",
        status=SandboxStatus.RUNNING,
        cpu=1,
        memory_mb=512,
        disk_gb=1,
        internet_access=True,
        live=True,
        secret="s",
        created_at=1000.0,
    )
    return replace(row, **fields)  # type: ignore[arg-type]


async def test_keys_have_the_documented_shape_and_only_hashes_are_stored(database: Database) -> None:
    async with database.write() as c:
        organization = await organizations.create(c, "o")
        key = await keys.create(c, organization.id)
        test_key = await keys.create(c, organization.id, live=False)
        rows = await keys.list_all(c, organization.id)
        found = await keys.verify(c, key)
        assert await keys.verify(c, test_key.replace("test", "live")) is None
        assert await keys.verify(c, key[:-1]) is None
    assert re.fullmatch(r"hopx_live_[A-Za-z0-9]{12}\.[A-Za-z0-9]{43}", key)
    assert test_key.startswith("hopx_test_")
    assert found is not None
    assert (found.organization_id, found.live) == (organization.id, True)
    assert key.partition(".")[2] not in repr(rows)


async def test_revoked_key_is_useless_and_can_be_revoked_once(database: Database) -> None:
    async with database.write() as c:
        key = await keys.create(c, (await organizations.get_or_create(c, "o")).id)
        key_id = key[10:22]
        assert await keys.revoke(c, key_id)
        assert not await keys.revoke(c, key_id)
        assert await keys.verify(c, key) is None


async def test_names_are_unique_per_organization_and_in_the_catalogue(database: Database) -> None:
    async with database.write() as c:
        first = (await organizations.create(c, "a")).id
        second = (await organizations.create(c, "b")).id
        await template(c, first, "x")
        await template(c, second, "x")
        await template(c, None, "x")
    for owner in (first, None):
        with pytest.raises(IntegrityError):
            async with database.write() as c:
                await template(c, owner, "x")


async def test_ids_of_deleted_templates_do_not_come_back(database: Database) -> None:
    async with database.write() as c:
        owner = (await organizations.create(c, "a")).id
        first = await template(c, owner, "x")
        assert await templates.delete(c, first)
        assert not await templates.delete(c, first)
        assert await template(c, owner, "x") > first


async def test_queue_is_fair_between_organizations_and_serial_per_template(database: Database) -> None:
    async with database.write() as c:
        a1, a2 = await queued(c, 1, 10), await queued(c, 1, 11)
        again = await queued(c, 1, 10)
        b1 = await queued(c, 2, 20)
        claimed = [await builds.claim_next(c) for _ in range(4)]
        assert await builds.finish(c, a1.id, status=BuildStatus.FAILED, error_message="no")
        after = await builds.claim_next(c)
    assert [row and row.id for row in claimed] == [a1.id, b1.id, a2.id, None]
    assert after is not None
    assert after.id == again.id
    assert after.started_at is not None


async def test_end_of_a_build_is_final_and_forgets_credentials(database: Database) -> None:
    async with database.write() as c:
        row = await queued(c, 1, 10)
        await builds.claim_next(c)
        await builds.set_progress(c, row.id, 40, "RUN 2/5")
        assert await builds.finish(c, row.id, status=BuildStatus.ACTIVE, timings={"steps": 1.5})
        assert not await builds.finish(c, row.id, status=BuildStatus.FAILED, error_message="late")
        await builds.set_progress(c, row.id, 41, "late")
        ended = await builds.get(c, row.id)
    assert ended is not None
    assert (ended.status, ended.progress, ended.credentials) == ("active", 100, None)
    assert (ended.timings, ended.current_step, ended.error_message) == ({"steps": 1.5}, None, None)
    assert "hunter2" not in repr(row)


async def test_interrupted_builds_get_their_place_in_the_queue_back(database: Database) -> None:
    async with database.write() as c:
        first, second = await queued(c, 1, 10), await queued(c, 1, 11)
        await builds.claim_next(c)
        assert await builds.requeue_interrupted(c) == [first.id]
        assert [row.id for row in await builds.with_status(c, BuildStatus.QUEUED)] == [first.id, second.id]
        claimed = await builds.claim_next(c)
    assert claimed is not None
    assert claimed.id == first.id
    assert claimed.credentials == {"password": "hunter2"}


async def test_quota_counts_what_counts_even_of_deleted_templates(database: Database) -> None:
    async with database.write() as c:
        owner = (await organizations.create(c, "a")).id
        mine = await template(c, owner, "x")
        row = await queued(c, owner, mine)
        free = await queued(c, owner, mine)
        await queued(c, owner + 1, mine)
        await c.execute(sa.update(schema.builds).where(schema.builds.c.id == free.id).values(counts=False))
        await templates.delete(c, mine)
        assert await builds.counted_since(c, owner, row.created_at) == [row.created_at]
        assert await builds.counted_since(c, owner, row.created_at + 1) == []


async def test_old_builds_go_except_the_newest_of_a_living_template(database: Database) -> None:
    async with database.write() as c:
        owner = (await organizations.create(c, "a")).id
        living = await template(c, owner, "x")
        old, newest, orphan = (
            await queued(c, owner, living),
            await queued(c, owner, living),
            await queued(c, owner, 999),
        )
        for row in (old, newest, orphan):
            await builds.finish(c, row.id, status=BuildStatus.ACTIVE)
        running = await queued(c, owner, 999)
        assert await builds.delete_ended_before(c, 1e12) == [old.id, orphan.id]
        assert await builds.get(c, newest.id)
        assert await builds.get(c, running.id)


async def test_upload_keeps_its_id_and_its_bytes_until_new_ones_arrive(database: Database) -> None:
    async with database.write() as c:
        row = await uploads.announce(c, organization_id=1, name="h", kind=UploadKind.ARCHIVE, size=5)
        assert await uploads.complete(c, row.file_id, blob="b1", size=5)
        again = await uploads.announce(c, organization_id=1, name="h", kind=UploadKind.ARCHIVE, size=9)
        other = await uploads.announce(c, organization_id=2, name="h", kind=UploadKind.ARCHIVE, size=9)
        assert (again.file_id, again.blob, again.size) == (row.file_id, "b1", 5)
        assert other.file_id != row.file_id
        assert await uploads.complete(c, row.file_id, blob="b2", size=9)
        assert await uploads.blobs(c) == {"b2"}
        assert not await uploads.complete(c, "nobody", blob="b3", size=9)


async def test_sandbox_comes_back_as_it_was_stored(database: Database) -> None:
    row = sandbox(timings={"restore": 61.5}, expires_at=5000.0, timeout_seconds=4000)
    async with database.write() as c:
        await sandboxes.insert(c, row)
        assert await sandboxes.get(c, row.id) == row
        assert await sandboxes.update(c, row.id, status=SandboxStatus.PAUSED)
        assert not await sandboxes.update(c, "nobody", status=SandboxStatus.PAUSED)
        assert await sandboxes.get(c, row.id) == replace(row, status=SandboxStatus.PAUSED)
        assert await sandboxes.delete(c, row.id)
        assert not await sandboxes.delete(c, row.id)


async def test_statuses_are_plain_words_in_the_table_and_members_in_rows(database: Database) -> None:
    row = sandbox(status=SandboxStatus.PAUSED, boot_path=BootPath.FORK)
    async with database.write() as c:
        await sandboxes.insert(c, row)
        stored = (await c.execute(sa.text("SELECT status, boot_path FROM sandboxes"))).one()
        found = await sandboxes.get(c, row.id)
    assert tuple(stored) == ("paused", "fork")
    assert {type(word) for word in stored} == {str}
    assert found is not None
    assert found.status is SandboxStatus.PAUSED
    assert found.boot_path is BootPath.FORK


async def test_who_is_due_and_who_counts(database: Database) -> None:
    ever, late, later, broken = (
        sandbox(),
        sandbox(expires_at=2000.0),
        sandbox(expires_at=3000.0, snapshot_key="k2"),
        sandbox(status="error"),
    )
    async with database.write() as c:
        for row in (ever, late, later, broken):
            await sandboxes.insert(c, row)
        assert [row.id for row in await sandboxes.due(c, 1999.0)] == []
        assert [row.id for row in await sandboxes.due(c, 3000.0)] == [late.id, later.id]
        assert await sandboxes.alive_of_template(c, 1, 2500.0) == 2
        assert await sandboxes.count(c, 1) == 4
        assert await sandboxes.snapshot_keys(c) == {"k", "k2"}
        assert len(await sandboxes.list_all(c)) == 4


async def test_lifetime_cannot_be_renewed_once_it_is_over(database: Database) -> None:
    row = sandbox(expires_at=2000.0)
    async with database.write() as c:
        await sandboxes.insert(c, row)
        assert await sandboxes.set_timeout(c, row.id, now=2000.0, timeout_seconds=60) is None
        changed = await sandboxes.set_timeout(c, row.id, now=1999.0, timeout_seconds=60)
        assert changed is not None
        assert changed.expires_at == 2059.0
        endless = await sandboxes.set_timeout(c, row.id, now=1999.0, timeout_seconds=None)
        assert endless is not None
        assert (endless.expires_at, endless.timeout_seconds) == (None, None)
