"""What waits for one version of a template."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from thawbox.node.container import Container
from thawbox.snapshots.manifest import Version

from .demand import Demand, Target


def living(waiting: Iterable[Container]) -> int:
    """How many have not died; the dead stay in a pool until the keeper looks."""
    return sum(not container.died.is_set() for container in waiting)


@dataclass(slots=True)
class Pool:
    """Containers of one version that are nobody's yet. Who takes one out owns it."""

    version: Version
    template: str
    """its name, for people"""
    pages_mb: float
    """size of its memory snapshot"""
    since: float
    """when it was first heard of, on the keeper's clock"""
    published: bool = False
    """whether a template boots from it, or did: one that is just built has a pool before"""
    ready: deque[Container] = field(default_factory=deque)
    """thawed, their agents answer"""
    shells: deque[Container] = field(default_factory=deque)
    """created, nothing runs in them"""
    demand: Demand = field(default_factory=Demand)
    target: Target = field(default_factory=Target)
    failed_at: float | None = None
    """when making one last failed"""
    misses: int = 0
    """requests that found none ready"""
    hits: int = 0
    refill_ms: float | None = None
    """how long the newest took to make"""

    def take(self, *, thawed: bool) -> Container | None:
        """One that lives, the oldest first; dead ones stay for the keeper to discard."""
        waiting = self.ready if thawed else self.shells
        for container in waiting:
            if not container.died.is_set():
                waiting.remove(container)
                return container
        return None

    def take_all(self) -> list[Container]:
        """Taken out: everything, dead or alive."""
        gone = [*self.ready, *self.shells]
        self.ready.clear()
        self.shells.clear()
        return gone

    def surplus(self) -> list[Container]:
        """Taken out: the dead, and what is beyond the target."""
        gone = []
        for waiting, wanted in ((self.ready, self.target.ready), (self.shells, self.target.shells)):
            for container in [one for one in waiting if one.died.is_set()]:
                waiting.remove(container)
                gone.append(container)
            while len(waiting) > wanted:
                gone.append(waiting.popleft())
        return gone

    def lacks(self) -> bool:
        """Whether something has to be made."""
        return len(self.ready) < self.target.ready or len(self.shells) < self.target.shells
