"""Counts of requests and executions per sandbox. They begin with the server and are forgotten with it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SANDBOXES_MAX = 10_000
"""Sandboxes that are counted; beyond it the one that was quiet longest is forgotten."""
SAMPLES = 500
"""Durations that the 95th percentile is of."""


@dataclass
class Counters:
    """Of one sandbox. Durations are milliseconds."""

    requests: dict[str, int] = field(default_factory=dict)
    """By route."""
    durations: dict[str, float] = field(default_factory=dict)
    """Sum by route."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    errors: int = 0
    """Requests that were not answered with a success."""
    active: int = 0
    executions: int = 0
    failed: int = 0

    def request(self, route: str, status: int, milliseconds: float) -> None:
        """Count a request that has been answered."""
        self.requests[route] = self.requests.get(route, 0) + 1
        self.durations[route] = self.durations.get(route, 0.0) + milliseconds
        self.recent.append(milliseconds)
        if status >= 400 or status == 0:
            self.errors += 1

    @property
    def p95_ms(self) -> float:
        """Nearest-rank 95th percentile of the recent durations."""
        ordered = sorted(self.recent)
        return ordered[max(0, -(-95 * len(ordered) // 100) - 1)] if ordered else 0.0


@dataclass
class Outcome:
    """How an execution went; set by whoever ran it."""

    success: bool = False


_counters: OrderedDict[str, Counters] = OrderedDict()


def counters_of(sandbox_id: str) -> Counters:
    """The sandbox's counters, kept from now on."""
    found = _counters.setdefault(sandbox_id, Counters())
    _counters.move_to_end(sandbox_id)
    while len(_counters) > SANDBOXES_MAX:
        _counters.popitem(last=False)
    return found


@contextmanager
def counted(sandbox_id: str) -> Iterator[Outcome]:
    """An execution is under way within this block; what does not succeed has failed."""
    counters = counters_of(sandbox_id)
    counters.active += 1
    outcome = Outcome()
    try:
        yield outcome
    finally:
        counters.active -= 1
        counters.executions += 1
        counters.failed += not outcome.success
