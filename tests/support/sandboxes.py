"""The real service on a fake runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thawbox import sandboxes as sandboxes_package
from thawbox.sandboxes.events import Events
from thawbox.sandboxes.service import SandboxService
from thawbox.settings import Settings
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.manifest import Snapshot, Version
from thawbox.snapshots.pins import Pins
from thawbox.state import Layout
from thawbox.store import organizations, sandboxes, templates
from thawbox.store.database import Database
from thawbox.store.enums import TemplateStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.testing import runtime as runtime_module
from thawbox.testing.runtime import FakeRuntime

from .database import open_database
from .settings import settings as default_settings

KEY = "a" * 64
_SERVER = Path(str(sandboxes_package.__file__)).parent
_RUNTIME = Path(str(runtime_module.__file__))


def _where(task: asyncio.Task[Any]) -> Path:
    """The source file of the function that the task runs."""
    code = getattr(task.get_coro(), "cr_code", None)
    return Path(code.co_filename if code is not None else "")


@dataclass
class Harness:
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
        await self.service.move_to_disk(before=float("inf"))

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
            while (await self.row(row)).status != status or self.service.context.operations.busy:
                await asyncio.sleep(0)  # the row is written before the one who wrote it has ended

    async def crash(self) -> None:
        """As after kill -9 of the server and the start of another one: nothing has time to end in order."""
        tasks = {task: _where(task) for task in asyncio.all_tasks() if not task.cancelling()}
        calls = [task for task, file in tasks.items() if file == _RUNTIME]
        for task, file in tasks.items():
            if file == _RUNTIME or file.is_relative_to(_SERVER):
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
                assert entry.status.value == row.status.value
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
        assert set(self.service.context.containers) == set(self.runtime.table)
        assert not self.service.context.operations.busy


async def make_harness(
    folder: Path, *, clock: Callable[[], float] = time.monotonic, **settings: object
) -> Harness:
    chosen = default_settings(
        folder, **{"memory_reserve_mb": 0, "pause_memory_s": 3600, "pool_max": 0} | settings
    )
    database = await open_database(chosen)
    layout = Layout(folder)
    layout.make()
    runtime = FakeRuntime(layout)
    (layout.images / "image.erofs").touch()
    memory = layout.snapshots / KEY / "memory"
    memory.mkdir(parents=True)
    (memory / "pages.img").write_text("fresh\n1")
    frozen = Snapshot(folder="memory", runsc_sha256=runtime.digest, agent_image="agent.erofs")
    versions.save(
        layout,
        Version(key=KEY, image="image.erofs", layers=(), cpu=1, memory_mb=256, disk_gb=1, snapshot=frozen),
    )
    async with database.write() as c:
        organization = await organizations.create(c, "one")
        template = await templates.create(
            c,
            organization_id=organization.id,
            name="t",
            cpu=1,
            memory_mb=256,
            disk_gb=1,
            status=TemplateStatus.ACTIVE,
        )
        await templates.update(c, template.id, snapshot_key=KEY)
        made = await templates.get(c, template.id)
    assert made is not None
    events = Events()
    service = SandboxService(runtime, database, chosen, Pins(), events, clock=clock)
    await service.start()
    return Harness(service, runtime, database, chosen, events, made)


async def close(harness: Harness) -> None:
    await harness.service.stop()
    await harness.database.close()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    made = await make_harness(tmp_path / "state")
    yield made
    await close(made)


Verb = Callable[[SandboxService, SandboxRow], Coroutine[Any, Any, SandboxRow]]


VERBS: dict[str, Verb] = {
    "pause": lambda service, row: service.pause(row),
    "resume": lambda service, row: service.resume(row),
    "stop": lambda service, row: service.stop_sandbox(row),
    "start": lambda service, row: service.start_sandbox(row),
}
