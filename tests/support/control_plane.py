from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute

from thawbox.api.app import create_app
from thawbox.api.context import ApiContext
from thawbox.sandboxes.tokens import open_signer
from thawbox.settings import Settings
from thawbox.store import keys, organizations, templates
from thawbox.store.enums import TemplateStatus
from thawbox.store.templates import TemplateRow
from thawbox.testing.services import FakeBuilder, FakeSandboxes

from .database import open_database
from .settings import settings


@dataclass
class World:
    """A control plane with two organisations; ``api`` asks as the first one."""

    context: ApiContext
    builder: FakeBuilder
    sandboxes: FakeSandboxes
    api: httpx.AsyncClient
    stranger: httpx.AsyncClient
    nobody: httpx.AsyncClient
    key: str
    organization_id: int

    async def template(self, name: str = "made", *, public: bool = False, ready: bool = True) -> TemplateRow:
        async with self.context.database.write() as c:
            row = await templates.create(
                c,
                organization_id=None if public else self.organization_id,
                name=name,
                cpu=2,
                memory_mb=2048,
                disk_gb=10,
                status=TemplateStatus.ACTIVE if ready else TemplateStatus.BUILDING,
                category="python" if public else "custom",
                language="python" if public else None,
            )
            if ready:
                await templates.update(c, row.id, snapshot_key="a" * 64)
            found = await templates.get(c, row.id)
        assert found is not None
        return found

    async def sandbox(self, **body: object) -> dict[str, object]:
        template = await self.template(f"t{len(self.sandboxes.environments)}-x")
        answer = await self.api.post("/v1/sandboxes", json={"template_id": str(template.id), **body})
        assert answer.status_code == 201, answer.text
        created: dict[str, object] = answer.json()
        return created


def asking(context: ApiContext, key: str | None, app: object = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app or create_app(context), raise_app_exceptions=False),  # type: ignore[arg-type]
        base_url="http://box.example:7070",
        headers={} if key is None else {"X-API-Key": key},
    )


_routes: list[BaseRoute] = []
"""Those of the first app; they know nothing of its context."""


def app_over(context: ApiContext) -> FastAPI:
    """The application over ``context``, with the routes of the first one.

    FastAPI prepares an application's routes at its first request. That takes longer than most tests do.
    """
    app = create_app(context)
    if _routes:
        app.router.routes = _routes
    else:
        _routes.extend(app.router.routes)
    return app


async def make_world(settings: Settings) -> World:
    database = await open_database(settings)
    async with database.write() as c:
        first = await organizations.create(c, "first")
        second = await organizations.create(c, "second")
        key = await keys.create(c, first.id)
        other = await keys.create(c, second.id, live=False)
    builder = FakeBuilder(database, settings.state / "logs")
    fakes = FakeSandboxes(database)
    context = ApiContext(settings, database, fakes, open_signer(settings), builder)
    app = app_over(context)
    return World(
        context=context,
        builder=builder,
        sandboxes=fakes,
        api=asking(context, key, app),
        stranger=asking(context, other, app),
        nobody=asking(context, None, app),
        key=key,
        organization_id=first.id,
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(settings(tmp_path / "state"))
    yield made
    await made.context.database.close()
