"""Counts of requests and executions per sandbox, in memory: they start at zero with the server."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thawbox.util.percentile import percentile

SANDBOXES_MAX = 2048
"""Sandboxes with counters, twice as many as a node can run. Beyond it, the one that was idle longest loses its
counters. A deleted sandbox loses them at once."""
SAMPLES = 500
"""Recent durations, for the 95th percentile."""


@dataclass
class Counters:
    """The counters of one sandbox. Durations are milliseconds."""

    requests: dict[str, int] = field(default_factory=dict)
    """By route."""
    durations: dict[str, float] = field(default_factory=dict)
    """Sum by route."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    errors: int = 0
    """Requests whose answer was not a success."""
    active: int = 0
    """Executions whose requests are still waiting."""
    executions: int = 0
    failed: int = 0
    last_sample: tuple[float, float] | None = None
    """Of the CPU: the time (monotonic) and the seconds used until then."""

    def request(self, route: str, status: int, milliseconds: float) -> None:
        """Count a request that has been answered."""
        self.requests[route] = self.requests.get(route, 0) + 1
        self.durations[route] = self.durations.get(route, 0.0) + milliseconds
        self.recent.append(milliseconds)
        if status >= 400 or status == 0:
            self.errors += 1

    def busy_share(self, now: float, used: float, age: float) -> float:
        """Cores in use on average since the last call; at the first call, over ``age`` seconds.

        ``now``: a monotonic time. ``used``: seconds of CPU that all living processes have used so far.
        """
        since, before = self.last_sample or (now - age, 0.0)
        self.last_sample = (now, used)
        return max(0.0, used - before) / (now - since) if now > since else 0.0

    @property
    def p95_ms(self) -> float:
        """95th percentile of the recent durations; 0 if there are none."""
        return percentile(self.recent, 95) if self.recent else 0.0


@dataclass
class Outcome:
    """How an execution went; set by whoever ran it."""

    success: bool = False


_counters: OrderedDict[str, Counters] = OrderedDict()


def counters_of(sandbox_id: str) -> Counters:
    """The sandbox's counters, made if there are none."""
    found = _counters.setdefault(sandbox_id, Counters())
    _counters.move_to_end(sandbox_id)
    while len(_counters) > SANDBOXES_MAX:
        _counters.popitem(last=False)
    return found


def forget(sandbox_id: str) -> None:
    """Drop the counters of a deleted sandbox."""
    _counters.pop(sandbox_id, None)


@contextmanager
def counted(sandbox_id: str) -> Iterator[Outcome]:
    """Count an execution during this block; it failed unless ``Outcome.success`` is set."""
    counters = counters_of(sandbox_id)
    counters.active += 1
    outcome = Outcome()
    try:
        yield outcome
    finally:
        counters.active -= 1
        counters.executions += 1
        counters.failed += not outcome.success


class CountRequests:
    """ASGI middleware: counts every request for a sandbox, whatever its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            sandbox_id = scope.get("state", {}).get("sandbox_id")
            if sandbox_id is not None:
                route = getattr(scope.get("route"), "path", "none")
                milliseconds = (time.perf_counter() - started) * 1000
                counters_of(sandbox_id).request(route, status, milliseconds)
