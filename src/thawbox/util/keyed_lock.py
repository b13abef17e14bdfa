"""A lock for each key, which is kept only while some task holds it or waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Counted:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """how many tasks hold the lock or wait for it"""


class KeyedLock:
    """Locks by key: blocks with the same key run one after the other. To be used from one event loop only."""

    def __init__(self) -> None:
        self._locks: dict[str, _Counted] = {}

    @property
    def keys(self) -> frozenset[str]:
        """The keys whose locks some task holds or waits for."""
        return frozenset(self._locks)

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of ``key`` while the block runs. Waiting tasks get it in the order in which they came."""
        counted = self._locks.setdefault(key, _Counted())
        counted.users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.users -= 1
            if not counted.users:
                del self._locks[key]
