"""One operation at a time for each sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from thawbox.errors import SandboxNotFound
from thawbox.util.keyed_lock import KeyedLock

T = TypeVar("T")


class Operations:
    """Operations on the same sandbox run one after the other. A deletion interrupts the one that runs."""

    def __init__(self) -> None:
        self._locks = KeyedLock()
        self._running: dict[str, asyncio.Task[Any]] = {}

    @property
    def busy(self) -> frozenset[str]:
        """Ids of the sandboxes that an operation runs on or waits for."""
        return self._locks.keys

    def lock(self, sandbox_id: str) -> AbstractAsyncContextManager[None]:
        """Let nothing else operate on the sandbox as long as the block lasts; ``interrupt`` does not end the block."""
        return self._locks.hold(sandbox_id)

    async def run(self, sandbox_id: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of ``work``, which has the sandbox's lock while it runs.

        Raises:
            SandboxNotFound: the sandbox was deleted, and the work was interrupted for that.
        """
        async with self.lock(sandbox_id):
            task = asyncio.create_task(work())
            self._running[sandbox_id] = task
            try:
                return await task
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                raise SandboxNotFound("Sandbox not found") from None
            finally:
                del self._running[sandbox_id]

    async def interrupt(self, sandbox_id: str) -> None:
        """Cancel the operation that runs on the sandbox; returns when it has cleaned up."""
        task = self._running.get(sandbox_id)
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
