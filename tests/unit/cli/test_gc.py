"""``thaw gc`` prints what the server's code freed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.command_line import Thaw


@pytest.fixture(autouse=True)
def freed(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(_settings: object) -> dict[str, Any]:
        return {"removed": {"layers": 3, "snapshots": 0}, "bytes": 1_500_000}

    monkeypatch.setattr("thawbox.cli.gc.collect", collect)


def test_says_what_it_freed(thaw: Thaw) -> None:
    assert thaw("gc").stdout == "layers: 3 removed\nsnapshots: 0 removed\nfreed 1.5 MB\n"


def test_json(thaw: Thaw) -> None:
    assert json.loads(thaw("gc", "--json").stdout)["bytes"] == 1_500_000
