"""How many containers should be ready: by how often each template was requested lately, within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

UNUSED_BELOW = 0.05
"""A template with a lower score counts as unused."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests for one version. Each counts less the older it is."""

    score: float = 0.0
    at: float = 0.0
    """when the score was computed, in seconds on the keeper's clock"""

    def decayed(self, now: float, half_life_s: float) -> float:
        """The score as of ``now``; it halves in ``half_life_s`` seconds."""
        return float(self.score * 0.5 ** (max(0.0, now - self.at) / half_life_s))

    def with_request(self, now: float, half_life_s: float) -> Demand:
        """The demand after one more request at ``now``."""
        return Demand(self.decayed(now, half_life_s) + 1, now)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The operator's limits."""

    floor: int
    """fewest thawed ones of each template, used or not"""
    ceiling: int
    """most thawed ones of one template; 0: no pools"""
    shells: int
    """shells of each template that is in use"""
    memory_mb: int
    """most memory of all of them together"""


@dataclass(frozen=True, slots=True)
class PoolTarget:
    """How many containers of one version should wait."""

    ready: int = 0
    shells: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that can have a pool. Sizes are MB."""

    score: float
    ready_mb: float
    """of one thawed container"""
    shell_mb: float
    """of one shell"""


def targets(candidates: Mapping[str, Candidate], bounds: Bounds) -> dict[str, PoolTarget]:
    """Compute how many of each version should wait, by the version's key.

    The versions take turns, the one with the highest score first, and each turn gives one container, until each has
    as many as its score wants or the memory is used up. So one popular template cannot take everything from the
    others. Shells come last.
    """
    order = sorted(candidates, key=lambda key: (-candidates[key].score, key))
    ready, shells = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    left = float(bounds.memory_mb)
    for number in range(1, bounds.ceiling + 1):
        for key in order:
            one = candidates[key]
            if wanted(one.score, bounds) >= number and one.ready_mb <= left:
                ready[key] += 1
                left -= one.ready_mb
    for _ in range(bounds.shells):
        for key in order:
            one = candidates[key]
            if bounds.ceiling and (one.score >= UNUSED_BELOW or bounds.floor) and one.shell_mb <= left:
                shells[key] += 1
                left -= one.shell_mb
    return {key: PoolTarget(ready[key], shells[key]) for key in order}


def wanted(score: float, bounds: Bounds) -> int:
    """How many thawed containers a score wants, whatever memory there is."""
    wanted_now = math.ceil(score) if score >= UNUSED_BELOW else 0
    return min(max(wanted_now, bounds.floor), bounds.ceiling)
