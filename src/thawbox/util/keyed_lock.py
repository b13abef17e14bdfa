"""A lock for each key, kept only while somebody holds it or waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Counted:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """those that hold it or wait for it"""


class KeyedLock:
    """Locks by key: two blocks with the same key run one after the other. Used from one event loop."""

    def __init__(self) -> None:
        self._locks: dict[str, _Counted] = {}

    @property
    def keys(self) -> frozenset[str]:
        """The keys that somebody holds or waits for."""
        return frozenset(self._locks)

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of ``key`` as long as the block lasts. It goes to those that wait in the order they came."""
        counted = self._locks.setdefault(key, _Counted())
        counted.users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.users -= 1
            if not counted.users:
                del self._locks[key]
