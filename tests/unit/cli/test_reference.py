"""The pages of docs/reference that come from the code are those of this code."""

from __future__ import annotations

from pathlib import Path

import pytest

from thawbox.cli.reference import pages
from thawbox.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", ["settings.md", "cli.md"])
def test_is_up_to_date(name: str) -> None:
    stale = "stale; run: .venv/bin/python -m thawbox.cli.reference docs/reference"
    assert (DOCS / name).read_text() == pages()[name], stale


def test_every_setting_is_there_once() -> None:
    page = pages()["settings.md"]
    for name in Settings.model_fields:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert not row.endswith("|  |"), f"{name} has no docstring in settings.py"
