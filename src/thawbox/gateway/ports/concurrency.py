"""A limit per sandbox on what is in progress, so that one cannot starve the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from thawbox.errors import RateLimited


class Concurrency:
    """Counts what is in progress per sandbox. ``what``: its name in the error."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, sandbox_id: str) -> Iterator[None]:
        """Count one more during the block.

        Raises:
            RateLimited: the limit is reached.
        """
        if self._held[sandbox_id] >= self._limit:
            raise RateLimited(
                f"Sandbox {sandbox_id} has {self._limit} {self._what} in progress, the most that are allowed: "
                "wait, or end some of them.",
                retry_after=1,
            )
        self._held[sandbox_id] += 1
        try:
            yield
        finally:
            self._held[sandbox_id] -= 1
            if not self._held[sandbox_id]:
                del self._held[sandbox_id]
