"""Turns an image reference into a folder with the image's root tree.

A source is a module with ``NAME``, ``resolve`` and ``fetch``. Its contract:

* ``resolve(reference, …)`` takes seconds and little disk space, and may be called often and concurrently. It pins the
  reference to a digest of what the image will contain: two bases with the same digest and source are interchangeable.
  It raises ``SourceFailure`` with a reason of one sentence, or ``BuildError`` when no source could use the reference or
  the credentials.
* ``fetch(resolved, destination, …)`` may take long: each program that it starts may take ``FETCH_TIMEOUT_S``.
  ``destination`` is an empty folder. On success it has the root tree: whiteouts are applied, owners and modes are those
  of the image. On failure or cancellation its content is undefined, and the caller removes it; no temporary file,
  process or mount is left, but downloads may stay in ``<state>/cache``. It may be called concurrently for different
  destinations.
* Credentials never appear in a command line, a log line or an error.

What a killed server leaves in ``<state>/tmp/images`` is removed at the next start, as all below ``tmp`` is
(``node.leftovers``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from thawbox.errors import BuildError
from thawbox.settings import Settings

from . import bootstrap, definitions, registry
from .prepare import prepare_root
from .reference import parse
from .values import Credentials, ImageConfig, Log, ResolvedBase, SourceFailure

__all__ = ["ImageConfig", "ResolvedBase", "fetch", "forget", "resolve"]

_REMEMBER_S = 60.0
"""How long this process remembers an answer: building a recipe again need not wait for the registry."""


class ImageSource(Protocol):
    """A module that resolves and fetches images; see the contract above."""

    async def resolve(
        self, reference: str, *, settings: Settings, credentials: Credentials | None, log: Log
    ) -> ResolvedBase: ...

    async def fetch(
        self,
        resolved: ResolvedBase,
        destination: Path,
        *,
        settings: Settings,
        credentials: Credentials | None,
        log: Log,
    ) -> ImageConfig: ...


_SOURCES: dict[str, ImageSource] = {registry.NAME: registry, bootstrap.NAME: bootstrap}
_answers: dict[tuple[str, str], tuple[float, ResolvedBase]] = {}


async def resolve(
    reference: str, *, settings: Settings, credentials: Credentials | None, log: Log
) -> ResolvedBase:
    """Pin ``reference`` by the first of ``settings.image_sources`` that has it.

    An answer without credentials is remembered for a minute, so a tag that moves is noticed after a minute.

    Raises:
        BuildError: ``reference`` is not an image reference, or no source has it. The message says why each source
            failed, and which names work without a registry.
    """
    wanted = parse(reference)
    key = (settings.model_dump_json(), str(wanted))
    if credentials is None and key in _answers and time.monotonic() - _answers[key][0] < _REMEMBER_S:
        return _answers[key][1]
    failures: list[str] = []
    for name in settings.image_sources:
        source = _SOURCES.get(name)
        if source is None:
            raise BuildError(f"image_sources: {name!r} is unknown, use {' and '.join(_SOURCES)}")
        try:
            found = await source.resolve(reference, settings=settings, credentials=credentials, log=log)
        except SourceFailure as failure:
            failures.append(f"{name}: {failure.reason}")
            if failure.final:
                break
            continue
        if failures:
            log("; ".join(failures))
        if credentials is None:
            _remember(key, found)
        return found
    works = f". Names that work without a registry: {', '.join(definitions.names())}"
    tried = "; ".join(failures) or "image_sources names no source"
    hint = works if bootstrap.NAME in settings.image_sources else ""
    raise BuildError(f"base image {wanted.short!r} is not available ({tried}){hint}", step="from")


async def fetch(
    resolved: ResolvedBase,
    destination: Path,
    *,
    settings: Settings,
    credentials: Credentials | None,
    log: Log,
) -> ImageConfig:
    """Fill the empty folder ``destination`` with the root tree, ready to be the lowest layer.

    Raises:
        BuildError: it did not work. The content of ``destination`` is undefined then; the caller must remove it.
    """
    source = _SOURCES[resolved.source]
    try:
        config = await source.fetch(
            resolved, destination, settings=settings, credentials=credentials, log=log
        )
    except SourceFailure as failure:
        raise BuildError(f"base image {resolved.reference}: {failure.reason}", step="from") from None
    await prepare_root(destination)
    return config


def forget() -> None:
    """Forget remembered answers."""
    _answers.clear()


def _remember(key: tuple[str, str], found: ResolvedBase) -> None:
    now = time.monotonic()
    for old in [known for known, (when, _) in _answers.items() if now - when >= _REMEMBER_S]:
        del _answers[old]
    _answers[key] = (now, found)
