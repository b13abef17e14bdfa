"""The quota of builds per organisation: as published, 10 an hour and 50 a day."""

from __future__ import annotations

import math
import time

from thawbox.errors import RateLimited
from thawbox.settings import Settings
from thawbox.store import builds
from thawbox.store.connection import Connection

HOUR_S = 3600
DAY_S = 86_400


async def check(connection: Connection, settings: Settings, organization_id: int) -> None:
    """Allow one more build. The rows are the count, so a restart does not reset it.

    Raises:
        RateLimited: says when the next one is allowed.
    """
    now = time.time()
    began = await builds.counted_since(connection, organization_id, now - DAY_S)
    for limit, window, word in (
        (settings.builds_per_hour, HOUR_S, "hour"),
        (settings.builds_per_day, DAY_S, "day"),
    ):
        inside = [at for at in began if at > now - window]
        if limit and len(inside) >= limit:
            wait = max(1, math.ceil(inside[-limit] + window - now))
            raise RateLimited(
                f"Rate limit exceeded: {limit} template builds per {word}; the next is possible in {wait} s "
                f"(the operator can raise THAWBOX_BUILDS_PER_{word.upper()})",
                retry_after=wait,
            )
