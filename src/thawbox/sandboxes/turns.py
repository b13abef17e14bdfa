"""One operation at a time for each sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from thawbox.errors import SandboxNotFound

T = TypeVar("T")


class Turns:
    """Who operates on a sandbox waits for its turn, and a deletion interrupts whoever has it."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._working: dict[str, asyncio.Task[Any]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, sandbox_id: str) -> AsyncIterator[None]:
        """The turn, as long as the block lasts; nobody interrupts it."""
        lock = self._locks[sandbox_id]
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock._waiters:
                self._locks.pop(sandbox_id, None)

    async def take(self, sandbox_id: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``work``, done in this sandbox's turn.

        Raises:
            SandboxNotFound: the sandbox was deleted, and the work was interrupted for that.
        """
        async with self.hold(sandbox_id):
            task = asyncio.create_task(work())
            self._working[sandbox_id] = task
            try:
                return await task
            except asyncio.CancelledError:
                us = asyncio.current_task()
                if us is not None and us.cancelling():
                    raise
                raise SandboxNotFound("Sandbox not found") from None
            finally:
                del self._working[sandbox_id]

    async def interrupt(self, sandbox_id: str) -> None:
        """Cancel what is being done to the sandbox; returns when it has cleaned up."""
        task = self._working.get(sandbox_id)
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
