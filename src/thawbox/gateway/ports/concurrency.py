"""How much one sandbox may have under way, so that it cannot starve the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from thawbox.errors import RateLimited


class Concurrency:
    """Counts what is under way per sandbox. ``what``: its name in the refusal."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, sandbox_id: str) -> Iterator[None]:
        """One more during the block.

        Raises:
            RateLimited: there are as many as may be.
        """
        if self._held[sandbox_id] >= self._limit:
            raise RateLimited(
                f"Sandbox {sandbox_id} has {self._limit} {self._what} under way, the most that it may: "
                "end some, or come back.",
                retry_after=1,
            )
        self._held[sandbox_id] += 1
        try:
            yield
        finally:
            self._held[sandbox_id] -= 1
            if not self._held[sandbox_id]:
                del self._held[sandbox_id]
