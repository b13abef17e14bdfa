"""Warnings about templates whose pool is often empty."""

from __future__ import annotations

import math

from thawbox import log as logs

from .demand import Bounds
from .pool import Pool

log = logs.get(__name__)

WARN_AFTER_MISSES = 5
WARN_INTERVAL_S = 60.0


class MissWarnings:
    """Logs once when a template is missed ``WARN_AFTER_MISSES`` times within ``WARN_INTERVAL_S``."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._misses: dict[str, tuple[int, float]] = {}
        """version key -> misses, and when the first of them was"""

    def record(self, pool: Pool, now: float, half_life_s: float) -> None:
        """Count a miss at ``now`` (seconds on the keeper's clock), and log a warning with the setting that helps."""
        misses, since = self._misses.get(pool.version.key, (0, now))
        if now - since > WARN_INTERVAL_S:
            misses, since = 0, now
        misses += 1
        if misses == WARN_AFTER_MISSES:
            score = pool.demand.decayed(now, half_life_s)
            setting = (
                "THAWBOX_POOL_MAX" if math.ceil(score) > self._bounds.ceiling else "THAWBOX_POOL_MEMORY_MB"
            )
            log.warning(
                "pool_misses",
                template=pool.template,
                misses=misses,
                within_s=round(now - since, 1),
                target=pool.target.ready,
                remedy=f"more would be ready with a higher {setting}, or THAWBOX_POOL_MIN",
            )
        self._misses[pool.version.key] = (misses, since)
