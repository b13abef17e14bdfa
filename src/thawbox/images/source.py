"""The way to a base image: a reference in, one plain folder out.

The contract of a source, a module with ``NAME``, ``resolve`` and ``fetch``:

* ``resolve(reference, …)`` takes seconds, needs no disk to speak of, and may be called as often as one likes, also
  concurrently. It pins the reference to a digest over what will go in: two bases with the same digest and source
  are interchangeable. It raises ``SourceFailure`` with a reason that fits in a sentence, or ``BuildError`` when
  the reference or the credentials cannot be used by anybody.
* ``fetch(resolved, destination, …)`` takes as long as it takes (bounded by ``FETCH_TIMEOUT_S`` per program that it
  starts). ``destination`` is an empty folder that the caller owns. On success it holds the root tree: whiteouts carried
  out, real owners and modes, no device nodes in it that matter. On failure or cancellation it holds anything, and
  the caller removes it; nothing else is left behind: no temporary file, process or mount, except that downloads
  may stay in ``<state>/cache``. It may be called concurrently for different destinations.
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
"""How long an answer stands in this process: the same recipe again must not wait for a registry, or for its silence."""


class _Source(Protocol):
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


_SOURCES: dict[str, _Source] = {registry.NAME: registry, bootstrap.NAME: bootstrap}
_answers: dict[tuple[str, str], tuple[float, ResolvedBase]] = {}


async def resolve(
    reference: str, *, settings: Settings, credentials: Credentials | None, log: Log
) -> ResolvedBase:
    """Pin ``reference`` with the first of ``settings.image_sources`` that has it.

    An answer without credentials is remembered for a minute, so a tag that moves is seen a minute later.

    Raises:
        BuildError: the reference is none, or no source has it; names what was tried, why each failed, and the
            names that would work.
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
    raise BuildError(f"base image {wanted.short!r} is not to be had ({tried}){hint}", step="from")


async def fetch(
    resolved: ResolvedBase,
    destination: Path,
    *,
    settings: Settings,
    credentials: Credentials | None,
    log: Log,
) -> ImageConfig:
    """Fill ``destination``, an empty folder that the caller owns, with the root tree, ready to be the lowest layer.

    Raises:
        BuildError: what went wrong; ``destination`` holds anything then and is the caller's to remove.
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
