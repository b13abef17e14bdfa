"""Any sequence of operations, crashes and deaths leaves database, runtime and disk in agreement."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.sandboxes import VERBS, make_harness
from thawbox.errors import InvalidState, SandboxNotFound
from thawbox.store.sandboxes import SandboxRow

T = TypeVar("T")
WHICH = st.integers(0, 3)


class Life(RuleBasedStateMachine):
    """The model: what each sandbox' memory holds, and who was deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        self.harness = self.do(make_harness(Path(self.folder.name) / "state"))
        self.contents: dict[str, str] = {}
        self.deleted: set[str] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    def teardown(self) -> None:
        self.do(self.harness.service.stop())
        self.do(self.harness.database.close())
        self.loop.close()
        self.folder.cleanup()

    def some(self, which: int) -> SandboxRow | None:
        rows = self.do(self.harness.rows())
        return rows[which % len(rows)] if rows else None

    @rule()
    def create(self) -> None:
        if len(self.contents) - len(self.deleted) < 4:
            row = self.do(self.harness.create())
            self.contents[row.id] = self.harness.runtime.table[row.id].content

    @rule(which=WHICH, verbs=st.lists(st.sampled_from(sorted(VERBS)), min_size=1, max_size=3))
    def operate(self, which: int, verbs: list[str]) -> None:
        """One, or several at once."""
        row = self.some(which)
        if row is None:
            return

        async def all_at_once() -> list[Any]:
            calls = (VERBS[verb](self.harness.service, row) for verb in verbs)
            return await asyncio.gather(*calls, return_exceptions=True)

        for outcome in self.do(all_at_once()):
            assert isinstance(outcome, SandboxRow | InvalidState), outcome

    @rule(which=WHICH, verb=st.sampled_from(sorted(VERBS)), turns=st.integers(0, 60))
    def delete_in_the_middle(self, which: int, verb: str, turns: int) -> None:
        row = self.some(which)
        if row is None:
            return

        async def race() -> Any:
            operation = asyncio.create_task(VERBS[verb](self.harness.service, row))
            for _ in range(turns):
                await asyncio.sleep(0)
            await self.harness.service.delete(row)
            return (await asyncio.gather(operation, return_exceptions=True))[0]

        outcome = self.do(race())
        assert isinstance(outcome, SandboxRow | InvalidState | SandboxNotFound), outcome
        self.deleted.add(row.id)

    @rule(which=WHICH, count=st.integers(1, 2))
    def fork(self, which: int, count: int) -> None:
        row = self.some(which)
        if row is None or len(self.contents) - len(self.deleted) > 4:
            return
        try:
            made = self.do(self.harness.service.fork(row, count, env={}, timeout_seconds=None))
        except InvalidState:
            assert row.status in ("stopped", "error")
        else:
            for copy in made:
                self.contents[copy.id] = self.contents[row.id]

    @rule()
    def time_passes(self) -> None:
        self.do(self.harness.settle())

    @rule(which=WHICH)
    def die(self, which: int) -> None:
        row = self.some(which)
        if row is not None and row.id in self.harness.runtime.table:
            self.harness.runtime.kill(row.id)
            self.do(self.harness.until_status(row, "error"))

    @rule(which=WHICH, verb=st.sampled_from(sorted(VERBS)), turns=st.integers(0, 60))
    def crash_in_the_middle(self, which: int, verb: str, turns: int) -> None:
        row = self.some(which)

        async def race() -> None:
            operation = None
            if row is not None:
                operation = asyncio.create_task(VERBS[verb](self.harness.service, row))
            for _ in range(turns):
                await asyncio.sleep(0)
            if operation is not None:
                operation.cancel()
                await asyncio.gather(operation, return_exceptions=True)
            await self.harness.crash()

        self.do(race())

    @invariant()
    def agree(self) -> None:
        self.do(self.harness.check())
        rows = {row.id for row in self.do(self.harness.rows())}
        assert rows == self.contents.keys() - self.deleted
        for name, entry in self.harness.runtime.table.items():
            assert entry.content == self.contents[name]


Life.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnySequence = Life.TestCase
