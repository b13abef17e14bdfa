"""What work under way needs although no row and no manifest refers to it yet."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator


class Pins:
    """Names of versions, images and layers that work under way needs although nothing refers to them yet."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def holder(self) -> Iterator[Callable[[str], None]]:
        """Gives ``pin(name)``; all its pins go at the end of the block."""
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
