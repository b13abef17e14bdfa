"""Fixtures of the unit tests; their code is in ``tests/support``."""

from __future__ import annotations

from tests.support.command_line import clean_environment, thaw
from tests.support.control_plane import world
from tests.support.sandboxes import house

__all__ = ["clean_environment", "house", "thaw", "world"]
