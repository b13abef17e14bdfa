"""News of sandboxes for whoever listens (contract B.13)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from thawbox.store.sandboxes import SandboxRow

BACKLOG = 1000
"""Events that wait for a slow reader; one more, and its stream ends, so that it notices."""

Kind = Literal["created", "updated", "deleted"]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a sandbox, and its row after that (of a deleted one: before)."""

    kind: Kind
    row: SandboxRow


class Listener:
    """One reader's queue."""

    def __init__(self, organization_id: int) -> None:
        self.organization_id = organization_id
        self._waiting: deque[Event] = deque()
        self._news = asyncio.Event()
        self._over = False

    def put(self, event: Event) -> None:
        """Queue an event, or end the stream if too many wait."""
        if len(self._waiting) >= BACKLOG:
            self.end()
        if not self._over:
            self._waiting.append(event)
            self._news.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._over = True
        self._news.set()

    async def next(self, patience_s: float) -> Event | Literal["over"] | None:
        """The next event; None if there was none within ``patience_s`` seconds; ``over`` after the last one."""
        if not self._waiting and not self._over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), patience_s)
        if self._waiting:
            event = self._waiting.popleft()
            if not self._waiting and not self._over:
                self._news.clear()
            return event
        return "over" if self._over else None


class Events:
    """Hands every event to the listeners of its organisation. Used from one event loop."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.on_deleted: list[Callable[[str], None]] = []
        """Called with the id of every sandbox that goes, whosever it is."""
        self.closing = asyncio.Event()
        """Set when the server stops: whatever streams for ever must end."""

    def publish(self, kind: Kind, row: SandboxRow) -> None:
        """Tell everybody whom it concerns; never waits."""
        if kind == "deleted":
            for forget in self.on_deleted:
                forget(row.id)
        for listener in self._listeners:
            if listener.organization_id == row.organization_id:
                listener.put(Event(kind, row))

    @contextlib.contextmanager
    def listen(self, organization_id: int) -> Iterator[Listener]:
        """Events from now on, as long as the block lasts."""
        listener = Listener(organization_id)
        self._listeners.add(listener)
        if self.closing.is_set():
            listener.end()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream."""
        self.closing.set()
        for listener in self._listeners:
            listener.end()
