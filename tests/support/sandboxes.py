"""The real service over a runtime that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thawbox.sandboxes.events import Events
from thawbox.sandboxes.service import SandboxService
from thawbox.settings import Settings, load
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Memory, Version
from thawbox.snapshots.pins import Pins
from thawbox.state import Layout
from thawbox.store import organizations, sandboxes, templates
from thawbox.store.database import Database
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.testing.runtime import FakeRuntime

from .database import open_database

KEY = "a" * 64


@dataclass
class House:
    """A service, what it runs on, and a template."""

    service: SandboxService
    runtime: FakeRuntime
    database: Database
    settings: Settings
    events: Events
    template: TemplateRow

    async def create(self, timeout_seconds: int | None = None) -> SandboxRow:
        row = await self.service.create(
            1, self.template, env={}, timeout_seconds=timeout_seconds, internet_access=True, live=True
        )
        entry = self.runtime.table[row.id]
        entry.content, entry.programs = f"memory of {row.id}", 3
        return row

    async def in_state(self, status: str) -> SandboxRow:
        """A sandbox in that state (on disk: a paused one whose memory has moved there)."""
        row = await self.create()
        if status in ("paused", "on disk"):
            row = await self.service.pause(row)
        if status == "on disk":
            await self.settle()
            row = await self.row(row)
        if status == "stopped":
            row = await self.service.stop_sandbox(row)
        if status == "error":
            self.runtime.kill(row.id)
            await self.until_status(row, "error")
            row = await self.row(row)
        return row

    async def settle(self) -> None:
        """As after a while: frozen sandboxes move to disk."""
        await self.service._settle(before=float("inf"))

    async def row(self, row: SandboxRow) -> SandboxRow:
        async with self.database.read() as c:
            found = await sandboxes.get(c, row.id)
        assert found is not None
        return found

    async def rows(self) -> list[SandboxRow]:
        async with self.database.read() as c:
            return await sandboxes.list_all(c)

    async def until_status(self, row: SandboxRow, status: str) -> None:
        async with asyncio.timeout(10):
            while (await self.row(row)).status != status or self.service._home.turns._locks:
                await asyncio.sleep(0)  # the row is written before the one who wrote it has ended

    async def crash(self) -> None:
        """kill -9 of the server, and another one: nothing is said goodbye to."""
        home = self.service._home
        calls = [
            task
            for task in asyncio.all_tasks()
            if getattr(task.get_coro(), "__qualname__", "").startswith("FakeRuntime.")
        ]  # those that are shielded
        for task in [*calls, *self.service._tasks, *home.watchers.values(), *home.turns._working.values()]:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self.service = SandboxService(self.runtime, self.database, self.settings, Pins(), self.events)
        await self.service.start()

    async def check(self) -> None:
        """Database, runtime and disk agree, and nothing is left over."""
        rows = {row.id: row for row in await self.rows()}
        layout = self.runtime.layout
        for row in rows.values():
            entry = self.runtime.table.get(row.id)
            if row.status == "running" or (row.status == "paused" and row.memory is None):
                assert entry is not None, row
                assert entry.status == row.status
                assert row.slot == entry.container.slot.index
            else:
                assert entry is None, row
                assert row.slot is None
            if row.status == "stopped":
                assert row.memory is not None
            held = [row.memory] if row.memory else []
            folder = layout.paused / row.id
            assert ([path.name for path in folder.iterdir()] if folder.exists() else []) == held
            if row.memory:
                content, programs = (folder / row.memory / "pages.img").read_text().split("\n")
                assert row.status != "stopped" or programs == "0", row
                assert content
        assert set(self.runtime.table) <= set(rows)
        assert {path.name for path in layout.paused.iterdir()} <= set(rows)
        assert self.runtime.slots == {e.container.slot.index for e in self.runtime.table.values()}
        assert list(layout.tmp.iterdir()) == []
        assert set(self.service._home.held) == set(self.runtime.table)
        assert not self.service._home.turns._locks


async def make_house(folder: Path, **settings: object) -> House:
    chosen = load(state=folder, **{"memory_reserve_mb": 0, "pause_memory_s": 3600, "pool_max": 0} | settings)
    database = await open_database(chosen)
    layout = Layout(folder)
    layout.make()
    runtime = FakeRuntime(layout)
    (layout.images / "image.erofs").touch()
    memory = layout.snapshots / KEY / "memory"
    memory.mkdir(parents=True)
    (memory / "pages.img").write_text("fresh\n1")
    frozen = Memory(folder="memory", runsc_sha256=runtime.digest, agent_image="agent.erofs")
    versions.save(
        layout,
        Version(key=KEY, image="image.erofs", layers=(), cpu=1, memory_mb=256, disk_gb=1, memory=frozen),
    )
    async with database.write() as c:
        organization = await organizations.create(c, "one")
        template = await templates.create(
            c, organization_id=organization.id, name="t", cpu=1, memory_mb=256, disk_gb=1, status="active"
        )
        await templates.update(c, template.id, snapshot_key=KEY)
        made = await templates.get(c, template.id)
    assert made is not None
    events = Events()
    service = SandboxService(runtime, database, chosen, Pins(), events)
    await service.start()
    return House(service, runtime, database, chosen, events, made)


async def leave(house: House) -> None:
    await house.service.stop()
    await house.database.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await make_house(tmp_path / "state")
    yield made
    await leave(made)


Verb = Callable[[SandboxService, SandboxRow], Coroutine[Any, Any, SandboxRow]]


VERBS: dict[str, Verb] = {
    "pause": lambda service, row: service.pause(row),
    "resume": lambda service, row: service.resume(row),
    "stop": lambda service, row: service.stop_sandbox(row),
    "start": lambda service, row: service.start_sandbox(row),
}
