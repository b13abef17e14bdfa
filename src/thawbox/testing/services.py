"""Test doubles of the services behind the HTTP planes. They follow the contracts, and build and boot nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from thawbox import ids
from thawbox.errors import (
    AliasExists,
    SandboxEnded,
    SandboxNotFound,
    SandboxPaused,
    SandboxStopped,
    SandboxUnavailable,
    TemplateNotReady,
)
from thawbox.guest import Endpoint
from thawbox.sandboxes.contract import SandboxDefaults
from thawbox.sandboxes.states import Action, applies
from thawbox.store import builds, sandboxes, templates
from thawbox.store.builds import BuildRow
from thawbox.store.database import Database
from thawbox.store.enums import BuildStatus, SandboxStatus, TemplateStatus
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow
from thawbox.templates.recipe import Recipe


@dataclass
class FakeBuilder:
    """A ``Builder`` whose builds run until a test ends them with ``finish``."""

    database: Database
    folder: Path
    submitted: list[Recipe] = field(default_factory=list)

    async def submit(self, organization_id: int, recipe: Recipe) -> int:
        """Insert the rows of a template and its build."""
        async with self.database.write() as c:
            known = await templates.get_own(c, organization_id, recipe.name)
            if known is not None and not recipe.update and known.status != TemplateStatus.FAILED:
                raise AliasExists(f"A template with alias '{recipe.name}' already exists")
            if known is None:
                known = await templates.create(
                    c,
                    organization_id=organization_id,
                    name=recipe.name,
                    cpu=recipe.cpu,
                    memory_mb=recipe.memory_mb,
                    disk_gb=recipe.disk_gb,
                )
            else:
                await templates.update(c, known.id, status=TemplateStatus.BUILDING)
            await builds.create(
                c, template_id=known.id, organization_id=organization_id, recipe={"name": recipe.name}
            )
        self.submitted.append(recipe)
        return known.id

    async def cancel(self, template_id: int) -> None:
        """End the newest build as failed."""
        async with self.database.write() as c:
            build = await builds.newest(c, template_id)
            if build is not None:
                await builds.finish(c, build.id, status=BuildStatus.FAILED, error_message="cancelled")

    async def forget(self, template_id: int) -> None:
        """Do nothing: there are no files."""

    def log_path(self, build: BuildRow) -> Path:
        """The log of this attempt."""
        return self.folder / f"{build.id}.log"

    async def finish(self, template_id: int, error_message: str | None = None) -> None:
        """End the newest build: as failed if there is a message, else as active."""
        async with self.database.write() as c:
            build = await builds.newest(c, template_id)
            assert build is not None
            if error_message is None:
                await builds.finish(c, build.id, status=BuildStatus.ACTIVE)
                await templates.update(c, template_id, status=TemplateStatus.ACTIVE, snapshot_key="0" * 64)
            else:
                await builds.finish(c, build.id, status=BuildStatus.FAILED, error_message=error_message)
                await templates.update(
                    c, template_id, status=TemplateStatus.FAILED, error_message=error_message
                )


@dataclass
class FakeSandboxes:
    """``Sandboxes`` that are only rows. The agents of all of them listen at ``address``."""

    database: Database
    address: Endpoint | None = None
    workdir: str = "/"
    user: str | None = None
    environments: dict[str, Mapping[str, str]] = field(default_factory=dict)

    async def create(
        self,
        organization_id: int,
        template: TemplateRow,
        *,
        env: Mapping[str, str],
        timeout_seconds: int | None,
        internet_access: bool,
        live: bool,
        public_ports: tuple[int, ...] | bool = (),
    ) -> SandboxRow:
        """Insert the row of a running sandbox."""
        if template.snapshot_key is None:
            raise TemplateNotReady(
                f"Template '{template.name}' is {template.status}: wait until it is active"
            )
        now = time.time()
        row = SandboxRow(
            id=ids.sandbox_id(),
            organization_id=organization_id,
            template_id=template.id,
            template_name=template.name,
            snapshot_key=template.snapshot_key,
            status=SandboxStatus.RUNNING,
            cpu=template.cpu,
            memory_mb=template.memory_mb,
            disk_gb=template.disk_gb,
            internet_access=internet_access,
            live=live,
            public_ports=public_ports,
            secret="",
            timeout_seconds=timeout_seconds,
            expires_at=None if timeout_seconds is None else now + timeout_seconds,
            created_at=now,
        )
        async with self.database.write() as c:
            await sandboxes.insert(c, row)
        self.environments[row.id] = env
        return row

    async def pause(self, sandbox: SandboxRow) -> SandboxRow:
        """Change the status, if the state table allows it."""
        return await self._change(Action.PAUSE, sandbox, SandboxStatus.PAUSED)

    async def resume(self, sandbox: SandboxRow) -> SandboxRow:
        """Change the status, if the state table allows it."""
        return await self._change(Action.RESUME, sandbox, SandboxStatus.RUNNING)

    async def stop_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """Change the status, if the state table allows it."""
        return await self._change(Action.STOP, sandbox, SandboxStatus.STOPPED)

    async def start_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """Change the status, if the state table allows it."""
        return await self._change(Action.START, sandbox, SandboxStatus.RUNNING)

    async def _change(self, action: Action, sandbox: SandboxRow, status: SandboxStatus) -> SandboxRow:
        applies(action, sandbox)
        async with self.database.write() as c:
            await sandboxes.update(c, sandbox.id, status=status)
        return replace(sandbox, status=status)

    async def fork(
        self, sandbox: SandboxRow, count: int, *, env: Mapping[str, str], timeout_seconds: int | None
    ) -> list[SandboxRow]:
        """Insert copies of the row."""
        now = time.time()
        end = None if timeout_seconds is None else now + timeout_seconds
        copies = [
            replace(
                sandbox,
                id=ids.sandbox_id(),
                status=SandboxStatus.RUNNING,
                created_at=now,
                timeout_seconds=timeout_seconds,
                expires_at=end,
            )
            for _ in range(count)
        ]
        async with self.database.write() as c:
            for copy in copies:
                await sandboxes.insert(c, copy)
        self.environments.update({copy.id: {**self.environments[sandbox.id], **env} for copy in copies})
        return copies

    async def save(self, sandbox: SandboxRow, name: str, description: str) -> TemplateRow:
        """Insert an active template."""
        async with self.database.write() as c:
            if await templates.get_own(c, sandbox.organization_id, name) is not None:
                raise AliasExists(f"A template with alias '{name}' already exists")
            return await templates.create(
                c,
                organization_id=sandbox.organization_id,
                name=name,
                description=description,
                cpu=sandbox.cpu,
                memory_mb=sandbox.memory_mb,
                disk_gb=sandbox.disk_gb,
                status=TemplateStatus.ACTIVE,
            )

    async def delete(self, sandbox: SandboxRow) -> None:
        """Remove the row."""
        async with self.database.write() as c:
            if not await sandboxes.delete(c, sandbox.id):
                raise SandboxNotFound("Sandbox not found")

    async def endpoint(self, sandbox: SandboxRow) -> Endpoint:
        """Return ``address``."""
        if sandbox.status == SandboxStatus.PAUSED:
            raise SandboxPaused(f"Sandbox {sandbox.id} is paused", retry_after=1)
        if sandbox.status == SandboxStatus.STOPPED:
            raise SandboxStopped(f"Sandbox {sandbox.id} is stopped")
        if sandbox.status == SandboxStatus.ERROR:
            raise SandboxEnded(f"Sandbox {sandbox.id} has ended: {sandbox.reason}")
        if sandbox.status != SandboxStatus.RUNNING or self.address is None:
            raise SandboxUnavailable(f"Sandbox {sandbox.id} is {sandbox.status}")
        return self.address

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """Return the working folder and user of this double."""
        return SandboxDefaults(self.workdir, self.user)
