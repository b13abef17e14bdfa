"""Builds from the request to the published template, on doubles of containers, agents and host programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from tests.support.database import open_database
from thawbox.builder import log as build_log
from thawbox.builder.service import BuildService
from thawbox.builder.timings import BuildTimings
from thawbox.errors import AliasExists, MachineDiskFull, RuntimeFault
from thawbox.snapshots.manifest import Version
from thawbox.store import builds, organizations, templates
from thawbox.store.builds import BuildRow
from thawbox.store.database import Database
from thawbox.store.enums import BuildStatus, TemplateStatus
from thawbox.store.templates import TemplateRow
from thawbox.templates.recipe import Recipe, RunStep

from .conftest import Workshop

RECIPE = Recipe(
    name="t", base_image="debian", steps=(RunStep(command="make"),), cpu=1, memory_mb=256, disk_gb=1
)
UPDATE = replace(RECIPE, update=True)


@dataclass
class Builds:
    """A service, the workshop that it builds in, and the versions that it announced."""

    workshop: Workshop
    database: Database
    organization: int
    announced: list[tuple[Version, str]] = field(default_factory=list)
    service: BuildService = field(init=False)

    def __post_init__(self) -> None:
        async def built(version: Version, name: str) -> None:
            self.announced.append((version, name))

        self.service = BuildService(
            self.workshop.runtime, self.database, self.workshop.settings, self.workshop.pins, built=built
        )

    async def submit(self, recipe: Recipe) -> int:
        return await self.service.submit(self.organization, recipe)

    async def ended(self, template_id: int) -> BuildRow:
        """The template's newest build, when it has ended and its task is gone."""
        async with asyncio.timeout(60):
            while not (row := await self.newest(template_id)).ended or self.workshop.runtime.table:
                await asyncio.sleep(0)  # the service's tasks go on
        return row

    async def newest(self, template_id: int) -> BuildRow:
        async with self.database.read() as c:
            row = await builds.newest(c, template_id)
        assert row is not None
        return row

    async def template(self, template_id: int) -> TemplateRow:
        async with self.database.read() as c:
            row = await templates.get(c, template_id)
        assert row is not None
        return row

    def log_of(self, row: BuildRow) -> str:
        return build_log.read_text(self.service.log_path(row), 0)[0]


@pytest.fixture
async def service(workshop: Workshop) -> AsyncIterator[Builds]:
    database = await open_database(workshop.settings)
    async with database.write() as c:
        organization = await organizations.create(c, "one")
    made = Builds(workshop, database, organization.id)
    await made.service.start()
    yield made
    await made.service.stop()
    await database.close()


async def test_a_build_makes_its_template_active(service: Builds) -> None:
    number = await service.submit(RECIPE)
    row = await service.ended(number)
    template = await service.template(number)
    assert (row.status, row.progress, row.error_message) == (BuildStatus.ACTIVE, 100, None)
    assert template.status == TemplateStatus.ACTIVE
    ((version, name),) = service.announced
    assert (template.snapshot_key, name) == (version.key, "t")
    timings = BuildTimings.from_json(row.timings)
    assert list(timings.phases) == ["base", "steps", "image", "snapshot"]
    assert [step.title for step in timings.steps] == ["[1/1] RUN make"]
    assert "template t is ready" in service.log_of(row)


async def test_an_update_replaces_the_version_and_removes_the_one_before(service: Builds) -> None:
    number = await service.submit(RECIPE)
    await service.ended(number)
    old = (await service.template(number)).snapshot_key
    with pytest.raises(AliasExists):
        await service.submit(RECIPE)
    changed = replace(UPDATE, steps=(RunStep(command="make all"),))
    assert await service.submit(changed) == number
    await service.ended(number)
    new = (await service.template(number)).snapshot_key
    assert new != old
    async with asyncio.timeout(60):
        while [path.name for path in service.workshop.layout.snapshots.iterdir()] != [new]:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (RuntimeFault("no runsc"), "step 1 (RUN make) failed: the step's sandbox died: no runsc"),
        (ValueError("a bug"), "internal error: ValueError: a bug"),
        (OSError(28, "No space left on device"), MachineDiskFull().message),
    ],
)
async def test_a_failing_build_says_why(service: Builds, fault: Exception, message: str) -> None:
    async def trouble(method: str, container: str) -> None:
        if isinstance(fault, RuntimeFault) and method == "tar_upper":
            raise fault
        if not isinstance(fault, RuntimeFault) and method == "create":
            raise fault

    service.workshop.runtime.trouble = trouble
    with capture_logs():  # rendering the trace of the bug takes longer than the build
        number = await service.submit(RECIPE)
        row = await service.ended(number)
    template = await service.template(number)
    assert (row.status, row.error_message) == (BuildStatus.FAILED, message)
    assert (template.status, template.error_message) == (TemplateStatus.FAILED, message)
    assert service.log_of(row).endswith(f"build failed: {message}\n")
    assert service.announced == []
    service.workshop.check_nothing_is_left()


async def test_a_cancelled_build_has_ended_as_failed(service: Builds) -> None:
    service.workshop.agents.endless.add("make")
    number = await service.submit(RECIPE)
    await service.workshop.agents.reached.wait()
    await service.submit(UPDATE)  # waits
    await service.service.cancel(number)
    async with service.database.read() as c:
        failed = await builds.with_status(c, BuildStatus.FAILED)
    assert [row.error_message for row in failed] == ["cancelled", "cancelled"]
    service.workshop.check_nothing_is_left()


async def test_an_update_that_waits_is_superseded_by_a_newer_one(service: Builds) -> None:
    service.workshop.agents.endless.add("make")
    number = await service.submit(RECIPE)
    await service.workshop.agents.reached.wait()
    await service.submit(UPDATE)
    await service.submit(UPDATE)
    async with service.database.read() as c:
        (superseded,) = await builds.with_status(c, BuildStatus.FAILED)
        assert len(await builds.with_status(c, BuildStatus.QUEUED, BuildStatus.BUILDING)) == 2
    assert superseded.error_message == "superseded by a newer build"
    await service.service.cancel(number)


async def test_a_build_that_a_stop_interrupts_goes_on_with_the_next_server(service: Builds) -> None:
    service.workshop.agents.endless.add("make")
    number = await service.submit(RECIPE)
    await service.workshop.agents.reached.wait()
    await service.service.stop()
    assert (await service.newest(number)).status == BuildStatus.BUILDING
    service.workshop.agents.endless.clear()
    service.__post_init__()
    await service.service.start()
    assert (await service.ended(number)).status == BuildStatus.ACTIVE
