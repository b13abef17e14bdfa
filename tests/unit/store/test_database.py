from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from thawbox.settings import load
from thawbox.store import keys, organizations
from thawbox.store.database import Database, DatabaseTooNew, open_database
from thawbox.store.schema import metadata


def differences(connection: sa.Connection) -> list[object]:
    found: list[object] = compare_metadata(MigrationContext.configure(connection), metadata)
    return found


async def test_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    async with database.read() as c:
        assert await c.run_sync(differences) == []
        made = await c.run_sync(lambda sync: sa.inspect(sync).get_table_names())
        indexes = await c.run_sync(
            lambda sync: {i["name"] for t in metadata.tables for i in sa.inspect(sync).get_indexes(t)}
        )
    assert set(metadata.tables) <= set(made)
    assert {str(i.name) for table in metadata.tables.values() for i in table.indexes} <= indexes


async def test_state_folder_and_file_are_private(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    database = await open_database(load(state=state))
    await database.close()
    assert state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in state.iterdir()} == {0}


async def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    settings = load(state=tmp_path)
    database = await open_database(settings)
    async with database.write() as c:
        await organizations.create(c, "kept")
    await database.close()
    database = await open_database(settings)
    async with database.read() as c:
        assert await organizations.get_by_name(c, "kept")
    await database.close()


async def test_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    settings = load(state=tmp_path)
    await (await open_database(settings)).close()
    raw = sqlite3.connect(tmp_path / "thawbox.db")
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(DatabaseTooNew, match="9999"):
        await open_database(settings)


async def test_two_that_open_at_once_migrate_once(tmp_path: Path) -> None:
    settings = load(state=tmp_path)
    first, second = await asyncio.gather(open_database(settings), open_database(settings))
    await first.close()
    await second.close()


async def test_failed_write_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as c:
            await organizations.create(c, "lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.read() as c:
        assert await organizations.get_by_name(c, "lost") is None


async def test_cancelled_write_leaves_nothing_and_frees_the_writer(database: Database) -> None:
    inside = asyncio.Event()

    async def stuck() -> None:
        async with database.write() as c:
            await organizations.create(c, "lost")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stuck())
    await inside.wait()
    waiting = asyncio.create_task(create(database, "next"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await waiting
    async with database.read() as c:
        assert [row.name for row in await organizations.list_all(c)] == ["next"]


async def create(database: Database, name: str) -> None:
    async with database.write() as c:
        await organizations.create(c, name)


async def test_many_writers_and_readers_get_along(database: Database) -> None:
    async def read() -> None:
        async with database.read() as c:
            await organizations.list_all(c)

    await asyncio.gather(*(create(database, str(n)) for n in range(40)), *(read() for _ in range(40)))
    async with database.read() as c:
        assert len(await organizations.list_all(c)) == 40


async def test_references_are_enforced(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as c:
            await keys.create(c, 12345)


async def test_foreign_writer_delays_a_write_but_not_the_loop(database: Database, tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "state" / "thawbox.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(create(database, "late"))
    cancelled = asyncio.create_task(create(database, "never"))
    async with asyncio.timeout(5):
        for _ in range(20):
            await asyncio.sleep(0)
            async with database.read() as c:
                assert await organizations.list_all(c) == []
        assert not waiting.done()
        cancelled.cancel()
        foreign.execute("COMMIT")
        foreign.close()
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    async with database.read() as c:
        assert [row.name for row in await organizations.list_all(c)] == ["late"]


async def test_write_cancelled_while_a_foreign_writer_holds_the_file(
    database: Database, tmp_path: Path
) -> None:
    foreign = sqlite3.connect(tmp_path / "state" / "thawbox.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(create(database, "never"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    foreign.close()
    await create(database, "next")
    async with database.read() as c:
        assert [row.name for row in await organizations.list_all(c)] == ["next"]


async def test_log_of_writes_does_not_grow_without_bound(database: Database, tmp_path: Path) -> None:
    foreign = sqlite3.connect(
        tmp_path / "state" / "thawbox.db"
    )  # else the last to close would remove the log
    foreign.execute("SELECT * FROM organizations").fetchall()
    for n in range(40):
        await create(database, f"{n}" + "x" * 1_000_000)
    await database.close()
    assert (tmp_path / "state" / "thawbox.db-wal").stat().st_size < 8 << 20
    foreign.close()
