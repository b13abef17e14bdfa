"""The order of the sources, what is remembered, and what a failure says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thawbox.errors import BuildError
from thawbox.images import scratch, source
from thawbox.images.values import Credentials, ImageConfig, Log, ResolvedBase, SourceFailure
from thawbox.settings import Settings, load
from thawbox.state import Layout
from thawbox.templates.recipe import RegistryCredentials

LOGIN = RegistryCredentials(kind="basic", username="u", password="p")


class FakeSource:
    """A source that has some names, or always fails; counts how often it was asked."""

    def __init__(self, name: str, *has: str, failure: SourceFailure | None = None) -> None:
        self.name = name
        self.has = has
        self.failure = failure
        self.asked = 0

    async def resolve(
        self, reference: str, *, settings: Settings, credentials: Credentials | None, log: Log
    ) -> ResolvedBase:
        self.asked += 1
        if reference not in self.has:
            raise self.failure or SourceFailure(f"{self.name} lacks it")
        return ResolvedBase(reference, "sha256:0", self.name, credentials is not None, "")

    async def fetch(
        self, resolved: ResolvedBase, destination: Path, *, settings: Settings,
        credentials: Credentials | None, log: Log,
    ) -> ImageConfig:  # fmt: skip
        raise SourceFailure("it is gone")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    source.forget()
    yield load(state=tmp_path)
    source.forget()


def use(monkeypatch: pytest.MonkeyPatch, registry: FakeSource, bootstrap: FakeSource) -> None:
    monkeypatch.setattr(source, "_SOURCES", {"registry": registry, "bootstrap": bootstrap})


async def resolve(
    settings: Settings, name: str = "debian:12", login: RegistryCredentials | None = None
) -> tuple[ResolvedBase, list[str]]:
    log: list[str] = []
    return await source.resolve(name, settings=settings, credentials=login, log=log.append), log


async def test_the_first_that_has_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeSource("registry", "debian:12"), FakeSource("bootstrap", "debian:12"))
    assert (await resolve(settings))[0].source == "registry"
    source.forget()
    turned = settings.model_copy(update={"image_sources": ("bootstrap", "registry")})
    assert (await resolve(turned))[0].source == "bootstrap"


async def test_the_log_says_why_another_source_was_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeSource("registry"), FakeSource("bootstrap", "debian:12"))
    found, log = await resolve(settings)
    assert found.source == "bootstrap"
    assert log == ["registry: registry lacks it"]


async def test_a_failure_names_everything(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeSource("registry"), FakeSource("bootstrap"))
    with pytest.raises(BuildError) as failure:
        await resolve(settings, "ubuntu:22.04")
    assert failure.value.message == (
        "base image 'ubuntu:22.04' is not available (registry: registry lacks it; bootstrap: bootstrap lacks it). "
        "Names that work without a registry: debian:11, debian:12, debian:13, python:3.9, python:3.11, python:3.13, "
        "node:18, node:20"
    )


async def test_a_final_failure_ends_the_search(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap = FakeSource("bootstrap", "debian:12")
    use(monkeypatch, FakeSource("registry", failure=SourceFailure("no", final=True)), bootstrap)
    with pytest.raises(BuildError, match="registry: no"):
        await resolve(settings)
    assert bootstrap.asked == 0


async def test_answers_are_remembered_but_not_those_with_a_login(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = FakeSource("registry", "debian:12")
    use(monkeypatch, registry, FakeSource("bootstrap"))
    await resolve(settings)
    assert await resolve(settings) == await resolve(settings)
    assert registry.asked == 1
    assert (await resolve(settings, login=LOGIN))[0].private
    assert not (await resolve(settings))[0].private
    assert registry.asked == 2
    await resolve(settings.model_copy(update={"registry_timeout_s": 1}))
    assert registry.asked == 3


async def test_failures_are_not_remembered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FakeSource("registry")
    use(monkeypatch, registry, FakeSource("bootstrap"))
    with pytest.raises(BuildError):
        await resolve(settings)
    registry.has = ("debian:12",)
    assert (await resolve(settings))[0].source == "registry"


async def test_an_unknown_source_is_named(settings: Settings) -> None:
    with pytest.raises(BuildError, match="image_sources: 'tape' is unknown"):
        await resolve(settings.model_copy(update={"image_sources": ("tape",)}))


async def test_no_source_at_all(settings: Settings) -> None:
    with pytest.raises(BuildError, match="names no source"):
        await resolve(settings.model_copy(update={"image_sources": ()}))


async def test_what_goes_wrong_while_fetching_is_a_build_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, FakeSource("registry", "debian:12"), FakeSource("bootstrap"))
    found, log = await resolve(settings)
    with pytest.raises(BuildError, match="debian:12: it is gone"):
        await source.fetch(found, tmp_path, settings=settings, credentials=None, log=log.append)


async def test_temporary_folders(settings: Settings) -> None:
    async with scratch.folder(settings) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").mkdir()
    assert not folder.exists()
    assert Layout(settings.state).tmp in folder.parents  # where ``node.leftovers`` finds what a crash leaves
