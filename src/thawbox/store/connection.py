"""The connection that queries run on: to PostgreSQL, or to SQLite, whose queries run on the event loop's thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, TypeVarTuple, overload

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.selectable import TypedReturnsRows

T = TypeVar("T")
Rs = TypeVarTuple("Rs")
AnyResult: TypeAlias = sa.CursorResult[*tuple[Any, ...]]

_PATIENCE_SECONDS = 20.0  # other processes (the command line) write to the same file
_RETRY_SECONDS = 0.005


class Connection(Protocol):
    """What the queries of this package need of a connection."""

    @overload
    async def execute(
        self, statement: TypedReturnsRows[*Rs], parameters: Any = None, /
    ) -> sa.CursorResult[*Rs]: ...

    @overload
    async def execute(self, statement: sa.Executable, parameters: Any = None, /) -> AnyResult: ...

    async def run_sync(self, function: Callable[[sa.Connection], T], /) -> T:
        """Call ``function`` with SQLAlchemy's own connection."""
        ...


class SqliteConnection:
    """Runs statements on the caller's thread: SQLite answers in less time than waking another thread takes."""

    def __init__(self, sync: sa.Connection) -> None:
        self._sync = sync

    @overload
    async def execute(
        self, statement: TypedReturnsRows[*Rs], parameters: Any = None, /
    ) -> sa.CursorResult[*Rs]: ...

    @overload
    async def execute(self, statement: sa.Executable, parameters: Any = None, /) -> AnyResult: ...

    async def execute(self, statement: sa.Executable, parameters: Any = None, /) -> AnyResult:
        """Run one statement. While another process has the file locked, wait without blocking the event loop."""
        return await patiently(lambda: self._sync.execute(statement, parameters))

    async def run_sync(self, function: Callable[[sa.Connection], T], /) -> T:
        """Call ``function`` with SQLAlchemy's own connection."""
        return function(self._sync)


async def patiently(attempt: Callable[[], T]) -> T:
    """Return the result of ``attempt``, repeated for up to 20 s while another process has the file locked.

    SQLite's own busy handler would block the event loop.

    Raises:
        OperationalError: still locked, or another fault of the database.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE_SECONDS
    while True:
        try:
            return attempt()
        except OperationalError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0)
            if code & 0xFF != sqlite3.SQLITE_BUSY or loop.time() >= until:
                raise
        await asyncio.sleep(_RETRY_SECONDS)
