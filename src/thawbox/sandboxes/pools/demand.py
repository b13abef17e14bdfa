"""How many sandboxes should be ready: by how often each template was asked for lately, within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FORGOTTEN = 0.05
"""With a lower score a template counts as unused."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests for one version, each of which counts less the longer it is ago."""

    score: float = 0.0
    at: float = 0.0
    """seconds on the clock of whoever asks"""

    def faded(self, now: float, half_life_s: float) -> float:
        """The score as it is worth now."""
        return float(self.score * 0.5 ** (max(0.0, now - self.at) / half_life_s))

    def raised(self, now: float, half_life_s: float) -> Demand:
        """With one more request."""
        return Demand(self.faded(now, half_life_s) + 1, now)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operator allows."""

    floor: int
    """of every template, used or not"""
    ceiling: int
    """of one template"""
    shells: int
    """of every template that is in use"""
    memory_mb: int
    """of all together"""


@dataclass(frozen=True, slots=True)
class Target:
    """How many of one version should wait."""

    ready: int = 0
    shells: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that could have some."""

    score: float
    ready_mb: float
    """what a thawed one costs"""
    shell_mb: float


def targets(candidates: Mapping[str, Candidate], bounds: Bounds) -> dict[str, Target]:
    """How many of each should wait, by key.

    Each gets what its score asks for, one after the other and the most wanted first, until the memory is given away;
    so one popular template cannot take everything from the others. Shells come last.
    """
    order = sorted(candidates, key=lambda key: (-candidates[key].score, key))
    ready, shells = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    left = float(bounds.memory_mb)
    for place in range(1, bounds.ceiling + 1):
        for key in order:
            one = candidates[key]
            if wanted(one.score, bounds) >= place and one.ready_mb <= left:
                ready[key] += 1
                left -= one.ready_mb
    for _ in range(bounds.shells):
        for key in order:
            one = candidates[key]
            if bounds.ceiling and (one.score >= FORGOTTEN or bounds.floor) and one.shell_mb <= left:
                shells[key] += 1
                left -= one.shell_mb
    return {key: Target(ready[key], shells[key]) for key in order}


def wanted(score: float, bounds: Bounds) -> int:
    """How many thawed ones a score asks for, memory aside."""
    asked = math.ceil(score) if score >= FORGOTTEN else 0
    return min(max(asked, bounds.floor), bounds.ceiling)
