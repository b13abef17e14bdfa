"""Databases for tests, without the price of the migrations, which most of a small test's time would go to."""

from __future__ import annotations

from thawbox.settings import Settings
from thawbox.store import database
from thawbox.store.database import Database

_migrated: bytes | None = None
"""A database with all tables and no rows, as its file has it."""


async def open_database(settings: Settings) -> Database:
    """Open a database like ``thawbox.store.database.open_database``, in a state folder that has none yet.

    The first call of a process migrates; later ones start from a copy of its file.
    """
    global _migrated
    file = settings.state / database.FILE_NAME
    if _migrated is None:
        await (await database.open_database(settings)).close()  # the last to close writes the log back
        _migrated = file.read_bytes()
    else:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(_migrated)
    return await database.open_database(settings)
