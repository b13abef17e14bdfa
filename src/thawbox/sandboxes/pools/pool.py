"""The pool of one version of a template."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from thawbox.node.container import Container
from thawbox.snapshots.manifest import Version

from .demand import Demand, PoolTarget


def living(waiting: Iterable[Container]) -> int:
    """How many have not died; dead ones stay in a pool until the keeper's next refresh."""
    return sum(not container.died.is_set() for container in waiting)


@dataclass(slots=True)
class Pool:
    """Containers of one version that no sandbox owns yet. Whoever takes one out must use it or destroy it."""

    version: Version
    template: str
    """the template's name, for people"""
    pages_mb: float
    """size of the version's snapshot in MB"""
    since: float
    """when the pool was made, on the keeper's clock"""
    published: bool = False
    """whether a template boots from the version, or did; a version gets its pool just before it is published"""
    ready: deque[Container] = field(default_factory=deque)
    """thawed containers; their agents answer"""
    shells: deque[Container] = field(default_factory=deque)
    """created containers in which nothing runs"""
    demand: Demand = field(default_factory=Demand)
    target: PoolTarget = field(default_factory=PoolTarget)
    failed_at: float | None = None
    """when the last attempt to make one failed, on the keeper's clock; None: it worked"""
    misses: int = 0
    """requests that found no thawed one"""
    hits: int = 0
    """requests that found one"""
    refill_ms: float | None = None
    """milliseconds that the newest container took to make"""

    def take(self, *, thawed: bool) -> Container | None:
        """Take out the oldest one that lives; None if there is none. The keeper discards dead ones later."""
        waiting = self.ready if thawed else self.shells
        for container in waiting:
            if not container.died.is_set():
                waiting.remove(container)
                return container
        return None

    def take_all(self) -> list[Container]:
        """Take out all containers, dead or alive."""
        gone = [*self.ready, *self.shells]
        self.ready.clear()
        self.shells.clear()
        return gone

    def surplus(self) -> list[Container]:
        """Take out the dead ones, and those beyond the target."""
        gone = []
        for waiting, wanted in ((self.ready, self.target.ready), (self.shells, self.target.shells)):
            for container in [one for one in waiting if one.died.is_set()]:
                waiting.remove(container)
                gone.append(container)
            while len(waiting) > wanted:
                gone.append(waiting.popleft())
        return gone

    def lacks(self) -> bool:
        """Whether there are fewer than the target."""
        return len(self.ready) < self.target.ready or len(self.shells) < self.target.shells
