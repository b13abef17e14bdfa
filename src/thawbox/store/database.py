"""The database: where it is, how it is opened, how to read and write."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from thawbox.errors import InternalFault
from thawbox.settings import Settings

from .connection import Connection, SqliteConnection, patiently

MIGRATIONS = Path(__file__).parent / "migrations"
FILE_NAME = "thawbox.db"
_OPENING_SECONDS = 20  # others may be opening it too
_WAL_BYTES = 4 << 20


class DatabaseTooNew(InternalFault):
    """The database was written by a newer Thawbox."""


class Database:
    """An open database, with a context for reading and one for writing.

    Each context has a connection of its own; leave it soon. In a read every statement sees the newest state (there is
    no transaction). A write is one transaction: committed when its block ends, rolled back when
    the block raises or is cancelled. Do not open a write inside a write: on SQLite that waits for itself.
    """

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        self._postgres: AsyncEngine | None = None
        self._sqlite: sa.Engine | None = None
        if parsed.get_backend_name() == "sqlite":
            self._sqlite = _sqlite_engine(parsed)
        else:
            self._postgres = create_async_engine(url, pool_pre_ping=True)
        self._file = parsed.database or ""
        # SQLite allows one writer. Waiting for this lock is fair, and the next one wakes at once.
        self._writer = asyncio.Lock()
        self._checkpoint: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A connection for SELECTs."""
        if self._sqlite is not None:
            with await patiently(self._sqlite.connect) as sync:
                yield SqliteConnection(sync)
        else:
            assert self._postgres is not None
            async with self._postgres.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that can write (SQLite: BEGIN IMMEDIATE)."""
        if self._sqlite is not None:
            async with self._writer:
                with await patiently(self._sqlite.connect) as sync:
                    sync.execution_options(thawbox_write=True)
                    with await patiently(sync.begin):
                        yield SqliteConnection(sync)
            self._bound_wal()
        else:
            assert self._postgres is not None
            async with self._postgres.connect() as connection, connection.begin():
                yield connection

    async def close(self) -> None:
        """Wait for a running checkpoint, then close every connection."""
        if self._checkpoint is not None:
            await self._checkpoint
        if self._sqlite is not None:
            await asyncio.to_thread(
                self._sqlite.dispose
            )  # the last connection that closes writes the log back
        if self._postgres is not None:
            await self._postgres.dispose()

    def _bound_wal(self) -> None:
        """Write a large log back in a thread: a commit on the event loop must not wait for fsync."""
        if self._checkpoint is not None and not self._checkpoint.done():
            return
        with contextlib.suppress(OSError):
            if os.stat(self._file + "-wal").st_size > _WAL_BYTES:
                self._checkpoint = asyncio.create_task(asyncio.to_thread(_checkpoint, self._file))


def default_url(settings: Settings) -> str:
    """The URL of the configured database: ``database_url``, or a SQLite file in the state folder."""
    return settings.database_url or f"sqlite:///{settings.state / FILE_NAME}"


async def open_database(settings: Settings) -> Database:
    """Open the database; create it if it is missing, and migrate its tables to the newest revision.

    The state folder has mode 0700 and a SQLite file 0600, because they hold secrets and the hashes of keys.

    Raises:
        DatabaseTooNew: a newer Thawbox migrated it.
        OSError: the folder or the file cannot be made.
    """
    if settings.database_url is None:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(_make_file, settings.state / FILE_NAME)
    database = Database(default_url(settings))
    try:
        async with database.write() as connection:
            await connection.run_sync(_migrate)
    except BaseException:
        await database.close()
        raise
    return database


def migrations_config() -> Config:
    """Alembic's configuration. There is no ini file, and the migrations are part of the package."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(connection: sa.Connection) -> None:
    config = migrations_config()
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise DatabaseTooNew(
            f"The database is at revision {current!r}, which this Thawbox does not know: it was used with a "
            "newer one. Install that version again, or name another state folder."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    # No limit of connections: waiting for a free one would block the event loop, so that none could become free.
    engine = sa.create_engine(
        url.set(drivername="sqlite"), max_overflow=-1, connect_args={"check_same_thread": False, "timeout": 0}
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = dbapi_connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "wal_autocheckpoint=0"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _checkpoint(file: str) -> None:
    """Write the log back and empty it. If the file stays busy, the next write tries again."""
    with (
        contextlib.closing(sqlite3.connect(file, timeout=1)) as connection,
        contextlib.suppress(sqlite3.Error),
    ):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the long part, while others write
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("thawbox_write"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _make_file(path: Path) -> None:
    """Create the file if it is missing, with mode 0600 and in WAL mode.

    A lock lets one process do this at a time: SQLite does not wait while another process changes the journal mode of
    a new file. An existing file is not opened here except by SQLite: closing any descriptor of it would release the
    locks that this process has on it (POSIX record locks).
    """
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)
        with contextlib.closing(sqlite3.connect(path, timeout=_OPENING_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    finally:
        os.close(lock)
