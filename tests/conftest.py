"""What holds for all tests: how hypothesis works, and who runs the tests that need root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

NEED_ROOT = [Path(__file__).parent / name for name in ("system", "clients")]

# A busy machine must not fail a test: no deadline per example, no health check that measures seconds. A forge's run
# (CI=true) is the same every time, so that a change does not fail by an example that has nothing to do with it.
settings.register_profile(
    "thawbox",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("thawbox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip real sandboxes for whoever is not root."""
    if os.geteuid() == 0:
        return
    for item in items:
        if any(folder in item.path.parents for folder in NEED_ROOT):
            item.add_marker(pytest.mark.skip(reason="needs root"))
