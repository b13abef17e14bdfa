from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.database import open_database
from tests.support.settings import settings
from thawbox.state import Layout
from thawbox.store.database import Database


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "state")
    made.make()
    return made


@pytest.fixture
async def database(layout: Layout) -> AsyncIterator[Database]:
    opened = await open_database(settings(layout.state))
    yield opened
    await opened.close()
