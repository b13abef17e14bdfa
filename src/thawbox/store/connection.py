"""What queries run on: a connection to PostgreSQL, or to SQLite right on the event loop."""

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
    """What the queries of this package need."""

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
    """Runs statements on the caller's thread: SQLite answers sooner than a thread could be woken."""

    def __init__(self, sync: sa.Connection) -> None:
        self._sync = sync

    @overload
    async def execute(
        self, statement: TypedReturnsRows[*Rs], parameters: Any = None, /
    ) -> sa.CursorResult[*Rs]: ...

    @overload
    async def execute(self, statement: sa.Executable, parameters: Any = None, /) -> AnyResult: ...

    async def execute(self, statement: sa.Executable, parameters: Any = None, /) -> AnyResult:
        """Run one statement; wait without holding up the loop while another process has the file locked."""
        return await patiently(lambda: self._sync.execute(statement, parameters))

    async def run_sync(self, function: Callable[[sa.Connection], T], /) -> T:
        """Call ``function`` with SQLAlchemy's own connection."""
        return function(self._sync)


async def patiently(attempt: Callable[[], T]) -> T:
    """The result of ``attempt``, tried again for 20 s while the file is locked by another process.

    SQLite's own busy handler would sleep on the event loop.

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
