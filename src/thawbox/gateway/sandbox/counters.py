"""Counts of requests and executions per sandbox. They begin with the server and are forgotten with it."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thawbox.util.percentile import percentile

SANDBOXES_MAX = 2048
"""Sandboxes that are counted, twice as many as a node can have running; beyond it the one that was quiet longest is
forgotten. One that is deleted is forgotten at once."""
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
    """Executions that somebody waits for."""
    executions: int = 0
    failed: int = 0
    last_look: tuple[float, float] | None = None
    """When the CPU was looked at, and its seconds then."""

    def request(self, route: str, status: int, milliseconds: float) -> None:
        """Count a request that has been answered."""
        self.requests[route] = self.requests.get(route, 0) + 1
        self.durations[route] = self.durations.get(route, 0.0) + milliseconds
        self.recent.append(milliseconds)
        if status >= 400 or status == 0:
            self.errors += 1

    def busy_share(self, now: float, used: float, age: float) -> float:
        """Cores' worth of work since the last look; at the first look, over ``age`` seconds.

        ``used``: seconds of CPU that all living processes have used so far.
        """
        since, before = self.last_look or (now - age, 0.0)
        self.last_look = (now, used)
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
    """The sandbox's counters, kept from now on."""
    found = _counters.setdefault(sandbox_id, Counters())
    _counters.move_to_end(sandbox_id)
    while len(_counters) > SANDBOXES_MAX:
        _counters.popitem(last=False)
    return found


def forget(sandbox_id: str) -> None:
    """Nobody asks any more."""
    _counters.pop(sandbox_id, None)


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


class CountRequests:
    """ASGI middleware: counts every request that was for a sandbox, whatever came of it."""

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
