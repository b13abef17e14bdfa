"""A container: slot, cgroup, bundle and runsc's record as one thing with one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from thawbox import guest
from thawbox.errors import RuntimeFault

from . import cgroups
from .slots import Slot

T = TypeVar("T")

Greeting = Callable[[guest.Endpoint], Coroutine[Any, Any, object]]
"""What is said first to a new container's agent; it may have to be said again until the agent is up."""

AGENT_PORT = 7777


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A created container and what it holds."""

    id: str
    slot: Slot
    cgroup: cgroups.Cgroup
    bundle: Path
    secret: str
    disk_gb: int
    internet: bool = True
    timings: dict[str, float] = field(default_factory=dict)
    """stage -> milliseconds, as far as it has come"""
    died: asyncio.Event = field(default_factory=asyncio.Event)
    """set when its process has ended"""
    starved: asyncio.Event = field(default_factory=asyncio.Event)
    """set when we killed it because it was out of memory"""

    @property
    def out_of_memory(self) -> bool:
        """Whether it had more in use than its memory limit, which is what it died of then."""
        return self.starved.is_set() or self.cgroup.oom_kills() > 0

    @property
    def endpoint(self) -> guest.Endpoint:
        """Where the agent inside listens."""
        return guest.Endpoint(self.slot.guest_address, AGENT_PORT, self.secret)


async def while_alive(container: Container, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which talks to the container.

    A dead sandbox does not even close its connections, so waiting for an answer would be for ever.

    Raises:
        RuntimeFault: the container died first; ``work`` has been cancelled.
    """
    task = asyncio.ensure_future(work)
    death = asyncio.ensure_future(container.died.wait())
    try:
        await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RuntimeFault("the sandbox ended")
        return task.result()
    finally:
        for one in (task, death):
            one.cancel()
        await asyncio.gather(task, death, return_exceptions=True)
