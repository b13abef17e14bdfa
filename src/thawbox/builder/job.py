"""What a build is made from, and how it reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from thawbox.templates.recipe import Recipe

from .timings import BuildTimings

WriteLog = Callable[[str, str], None]
"""``write(level, message)`` of the build's own log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFiles:
    """The files of one COPY step, as the server has them."""

    digest: str
    """over names, modes and content"""
    open: Callable[[], Iterator[bytes]]
    """gives the chunks of a plain tar file; blocks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """One build."""

    organization_id: int
    template_id: int
    recipe: Recipe
    files: Mapping[int, CopiedFiles]
    """by number of the COPY step"""
    log: WriteLog
    progress: Callable[[int, str], Awaitable[None]]
    """``progress(percent, what is being done)``"""
    once: Callable[[str], AbstractAsyncContextManager[None]]
    """``once(key)``: a lock, so that builds which need the same thing make it once"""
    timings: BuildTimings = field(default_factory=BuildTimings)
    """filled in by the build"""
