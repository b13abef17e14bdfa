"""Keeps garbage collection from files that work under way needs, before a row or a manifest refers to them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator


class Pins:
    """Names of versions, images and layers in use by builds and the like. Used from one event loop."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def holder(self) -> Iterator[Callable[[str], None]]:
        """Yield ``pin(name)``; all that it pinned is released at the end of the block."""
        mine: list[str] = []

        def pin(name: str) -> None:
            mine.append(name)
            self._held[name] += 1

        try:
            yield pin
        finally:
            self._held.subtract(mine)
            self._held += Counter()  # drops zeros

    def names(self) -> set[str]:
        """Everything that is pinned now."""
        return set(self._held)

    def __contains__(self, name: str) -> bool:
        return name in self._held
