"""The steps of a template's last build, kept to say in the log why a step of the next one was not cached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thawbox.state import Layout
from thawbox.util import atomic


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step's key was made of."""

    below: str
    """the chain of steps before it"""
    identity: str
    """the step itself, with the copied files"""
    content: str
    """the copied files alone; empty for other steps"""


def load(layout: Layout, template_id: int) -> list[StepRecord]:
    """The steps of the last build that got through them; empty if there was none."""
    try:
        return [StepRecord(**entry) for entry in json.loads(_path(layout, template_id).read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def save(layout: Layout, template_id: int, entries: Sequence[StepRecord]) -> None:
    """Remember these steps."""
    atomic.write_text(_path(layout, template_id), json.dumps([asdict(entry) for entry in entries]))


def forget(layout: Layout, template_id: int) -> None:
    """Remove what is kept of the template."""
    _path(layout, template_id).unlink(missing_ok=True)


def why_missed(
    before: Sequence[StepRecord], now: Sequence[StepRecord], *, forced: bool, missed_before: bool
) -> str:
    """Why the last step of ``now`` has to run: the input that differs from the last build's.

    ``before`` and ``now`` are the steps of the last build and of this one, so far. ``forced``: the cache is not used.
    ``missed_before``: an earlier step of this build has run.
    """
    if forced:
        return "skipCache"
    if missed_before:
        return "a step before it was run again"
    if len(before) < len(now):
        return "first time"
    old, new = before[len(now) - 1], now[-1]
    if old.content != new.content:
        return "the copied files changed"
    if old.identity != new.identity:
        return "the step changed"
    if old.below != new.below:
        return "the base image or a step before it changed"
    return "no longer in the cache"


def _path(layout: Layout, template_id: int) -> Path:
    return layout.logs / f"{template_id}.steps.json"
