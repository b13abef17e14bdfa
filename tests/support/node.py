"""Doubles of what a node needs of the kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thawbox.node.slots import Slot


@dataclass
class FakeKernel:
    """The slots that exist, and what was done."""

    existing: set[int] = field(default_factory=set)
    calls: list[tuple[str, int]] = field(default_factory=list)
    fail: set[str] = field(default_factory=set)

    def make(self, slot: Slot) -> None:
        self.calls.append(("make", slot.index))
        self.existing.add(slot.index)
        if "make" in self.fail:
            raise OSError("make")

    def refresh(self, slot: Slot) -> None:
        self.calls.append(("refresh", slot.index))
        if "refresh" in self.fail:
            raise OSError("refresh")

    def destroy(self, slot: Slot) -> None:
        self.calls.append(("destroy", slot.index))
        self.existing.discard(slot.index)


class FakeStart:
    """Stands for ``reaper.start_and_wait``; records its arguments and ends as it is told."""

    def __init__(self) -> None:
        self.argv: list[str] = []
        self.env: Mapping[str, str] = {}
        self.input = b""
        self.outcome: int | type[BaseException] = 0
        self.prints = b""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> int:
        self.argv, self.env = list(argv), env
        self.input = os.read(stdin, 1000)
        assert stdout == stderr
        os.write(stdout, self.prints)
        if not isinstance(self.outcome, int):
            raise self.outcome
        return self.outcome
