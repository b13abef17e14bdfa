"""Events of sandboxes, for clients that follow a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from thawbox.store.sandboxes import SandboxRow

BACKLOG = 1000
"""Events that are queued for a slow reader. One more ends its stream, so that the reader notices the loss."""

EventKind = Literal["created", "updated", "deleted"]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a sandbox, and its row afterwards (if it was deleted: its last row)."""

    kind: EventKind
    row: SandboxRow


class Subscription:
    """The queue of one reader."""

    def __init__(self, organization_id: int) -> None:
        self.organization_id = organization_id
        self._queue: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, event: Event) -> None:
        """Queue an event, or end the stream if ``BACKLOG`` events are queued already."""
        if len(self._queue) >= BACKLOG:
            self.end()
        if not self._ended:
            self._queue.append(event)
            self._changed.set()

    def end(self) -> None:
        """Accept no more events; those that are queued can still be read."""
        self._ended = True
        self._changed.set()

    async def next(self, patience_s: float) -> Event | Literal["over"] | None:
        """Return the next event; None if none came within ``patience_s`` seconds; ``over`` after the last one."""
        if not self._queue and not self._ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), patience_s)
        if self._queue:
            event = self._queue.popleft()
            if not self._queue and not self._ended:
                self._changed.clear()
            return event
        return "over" if self._ended else None


class Events:
    """Passes every event to the subscriptions of its organisation. Used from one event loop."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.on_deleted: list[Callable[[str], None]] = []
        """Called with the id of every deleted sandbox, of any organisation."""
        self.closing = asyncio.Event()
        """Set when the server stops: endless streams must end then."""

    def publish(self, kind: EventKind, row: SandboxRow) -> None:
        """Queue an event for the organisation's subscriptions; never waits."""
        if kind == "deleted":
            for callback in self.on_deleted:
                callback(row.id)
        for subscription in self._subscriptions:
            if subscription.organization_id == row.organization_id:
                subscription.put(Event(kind, row))

    @contextlib.contextmanager
    def subscribe(self, organization_id: int) -> Iterator[Subscription]:
        """Receive the organisation's events from now on, as long as the block lasts."""
        subscription = Subscription(organization_id)
        self._subscriptions.add(subscription)
        if self.closing.is_set():
            subscription.end()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every stream."""
        self.closing.set()
        for subscription in self._subscriptions:
            subscription.end()
