from __future__ import annotations

from tests.support.gateway import agent, gate, live

__all__ = ["agent", "gate", "live"]
