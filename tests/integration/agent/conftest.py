from __future__ import annotations

from tests.support.agent import agent, endpoint, own_agent

__all__ = ["agent", "endpoint", "own_agent"]
