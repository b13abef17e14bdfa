from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.database import open_database
from tests.support.settings import settings
from thawbox.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(settings(tmp_path / "state"))
    yield opened
    await opened.close()
