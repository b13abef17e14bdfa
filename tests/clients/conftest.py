"""The server that the published clients talk to."""

from __future__ import annotations

from tests.system.conftest import server

__all__ = ["server"]
