"""Fixtures of the unit tests, whose code is in ``tests/support``, and the guard that keeps them unit tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.support import guard
from tests.support.command_line import clean_environment, thaw
from tests.support.control_plane import world
from tests.support.sandboxes import harness

__all__ = ["clean_environment", "harness", "thaw", "world"]


# Hooks and not a fixture, so that fixtures of any scope are held to it as well. pytest calls them for the tests of this
# folder alone.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with guard.enforced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with guard.enforced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    with guard.enforced():
        return (yield)
