"""A container on this machine: its id, network slot, cgroup and bundle."""

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
"""The first request to the agent of a new container. It is repeated until the agent answers."""

AGENT_PORT = 7777
"""Port inside the container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A created container and the resources that belong to it."""

    id: str
    slot: Slot
    cgroup: cgroups.Cgroup
    bundle: Path
    secret: str
    disk_gb: int
    internet: bool = True
    timings: dict[str, float] = field(default_factory=dict)
    """stage of its start -> milliseconds; only finished stages"""
    died: asyncio.Event = field(default_factory=asyncio.Event)
    """set when its process has ended"""
    oom_killed: asyncio.Event = field(default_factory=asyncio.Event)
    """set when the server killed it because it was out of memory (cgroup v1)"""

    @property
    def out_of_memory(self) -> bool:
        """Whether it, or a part of it, was killed because it reached its memory limit."""
        return self.oom_killed.is_set() or self.cgroup.oom_kills() > 0

    @property
    def endpoint(self) -> guest.Endpoint:
        """Where the agent inside listens."""
        return guest.Endpoint(self.slot.guest_address, AGENT_PORT, self.secret)


async def while_alive(container: Container, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, which talks to the container, and return its result.

    The connections of a dead sandbox are never closed, so ``work`` alone could wait for ever.

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
