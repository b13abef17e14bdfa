"""Any sequence of claims, refills, deaths, updates and crashes: what waits is nobody's, what was claimed one's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.pools import create, filled, ready, update, waiting
from tests.support.sandboxes import Harness, make_harness
from thawbox.errors import RuntimeFault
from thawbox.store.sandboxes import SandboxRow
from thawbox.testing.runtime import no_trouble

T = TypeVar("T")
WHICH = st.integers(0, 7)


class Pooling(RuleBasedStateMachine):
    """The model: who was handed a container, and which containers died."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        made = make_harness(Path(self.folder.name) / "state", pool_min=2, pool_max=3, pool_shells=1)
        self.harness: Harness = self.do(made)
        self.do(filled(self.harness))
        self.owned: dict[str, SandboxRow] = {}
        self.ever_owned: set[str] = set()
        self.dead: set[str] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    def teardown(self) -> None:
        self.do(self.harness.service.stop())
        assert set(self.harness.runtime.table) == set(self.owned)
        self.do(self.harness.database.close())
        self.loop.close()
        self.folder.cleanup()

    def _take(self, row: SandboxRow) -> None:
        assert row.id not in self.ever_owned, "handed over twice"
        assert row.id not in self.dead, "handed over dead"
        assert row.snapshot_key == self.harness.template.snapshot_key
        self.ever_owned.add(row.id)
        self.owned[row.id] = row

    @rule(count=st.integers(1, 8), internet_access=st.booleans())
    def claim(self, count: int, internet_access: bool) -> None:
        """Several at once, more than wait."""

        async def all_at_once() -> list[SandboxRow]:
            return await asyncio.gather(
                *(create(self.harness, internet_access=internet_access) for _ in range(count))
            )

        for row in self.do(all_at_once()):
            self._take(row)

    @rule(count=st.integers(1, 8), turns=st.integers(0, 60))
    def claim_and_go_away(self, count: int, turns: int) -> None:
        """The clients hang up in the middle."""

        async def gone() -> list[Any]:
            requests = [asyncio.create_task(create(self.harness)) for _ in range(count)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for request in requests:
                request.cancel()
            return await asyncio.gather(*requests, return_exceptions=True)

        for outcome in self.do(gone()):
            if isinstance(outcome, SandboxRow):
                self._take(outcome)
            else:
                assert isinstance(outcome, asyncio.CancelledError), outcome

    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        if self.owned:
            row = self.owned.pop(sorted(self.owned)[which % len(self.owned)])
            self.do(self.harness.service.delete(row))

    @rule(which=WHICH)
    def die_while_waiting(self, which: int) -> None:
        names = sorted(waiting(self.harness))
        if names:
            self.dead.add(names[which % len(names)])
            self.harness.runtime.kill(names[which % len(names)])

    @rule()
    def all_that_is_ready_turns_deaf(self) -> None:
        deaf = ready(self.harness)

        async def trouble(method: str, container: str) -> None:
            if method == "greet" and container in deaf:
                raise RuntimeFault("no answer")

        self.harness.runtime.trouble = trouble
        row = self.do(create(self.harness))
        self.harness.runtime.trouble = no_trouble
        self.dead |= deaf - {row.id}
        assert row.id not in deaf
        self._take(row)

    @rule()
    def update_template(self) -> None:
        if self.harness.template.snapshot_key == "a" * 64:
            self.do(update(self.harness))

    @rule()
    def look(self) -> None:
        self.do(self.harness.service.pools.refresh())

    @rule()
    def fill(self) -> None:
        self.do(filled(self.harness))
        assert len(ready(self.harness)) >= 2

    @rule()
    def crash(self) -> None:
        self.do(self.harness.crash())

    @invariant()
    def nobody_has_what_waits(self) -> None:
        assert not waiting(self.harness) & self.owned.keys()
        assert {row.id for row in self.do(self.harness.rows())} == self.owned.keys()
        table = self.harness.runtime.table
        assert self.owned.keys() <= table.keys()
        assert self.harness.runtime.slots == {entry.container.slot.index for entry in table.values()}


Pooling.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyPools = Pooling.TestCase
