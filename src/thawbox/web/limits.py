"""Requests per minute, and the three headers that tell about them.

What clients rely on: docs/reference/compatibility/conventions.md#rate-limits.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from thawbox.errors import RateLimited

UNLIMITED = 1_000_000
"""The value of the headers where there is no limit."""
_WINDOW = 60


@dataclass(frozen=True, slots=True)
class Allowance:
    """Requests that a caller has left in this window."""

    limit: int
    remaining: int
    reset: int
    """Unix seconds at which the window ends."""
    exceeded: bool = False

    def headers(self) -> list[tuple[bytes, bytes]]:
        """For the answer."""
        return [
            (b"x-ratelimit-limit", str(self.limit).encode()),
            (b"x-ratelimit-remaining", str(self.remaining).encode()),
            (b"x-ratelimit-reset", str(self.reset).encode()),
        ]

    def check(self) -> None:
        """Raises:
        RateLimited: this request exceeds the limit.
        """
        if self.exceeded:
            wait = min(_WINDOW, max(1, math.ceil(self.reset - time.time())))
            raise RateLimited(
                f"{self.limit} requests per minute are allowed: try again in {wait} s.", retry_after=wait
            )


class RequestLimiter:
    """Counts requests per key in windows of a minute; 0 per minute means no limit."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def untouched(self) -> Allowance:
        """The whole allowance, for requests without a key; counts nothing."""
        limit = self._limit or UNLIMITED
        return Allowance(limit=limit, remaining=limit, reset=math.ceil(time.time()) + _WINDOW)

    async def hit(self, key: str) -> Allowance:
        """Count one request of ``key``."""
        if self._item is None:
            return self.untouched()
        allowed = await self._limiter.hit(self._item, key)
        window = await self._limiter.get_window_stats(self._item, key)
        return Allowance(
            limit=self._limit,
            remaining=max(0, window.remaining),
            reset=math.ceil(window.reset_time),
            exceeded=not allowed,
        )
