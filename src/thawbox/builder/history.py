"""The steps of a template's last build, kept to answer "why was this not cached?"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thawbox.state import Layout
from thawbox.util import atomic


@dataclass(frozen=True, slots=True)
class Entry:
    """What a step's key was made of."""

    below: str
    identity: str
    content: str


def load(layout: Layout, template_id: int) -> list[Entry]:
    """The steps of the last build that got through them; empty if there was none."""
    try:
        return [Entry(**entry) for entry in json.loads(_path(layout, template_id).read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def save(layout: Layout, template_id: int, entries: Sequence[Entry]) -> None:
    """Remember these steps."""
    atomic.write_text(_path(layout, template_id), json.dumps([asdict(entry) for entry in entries]))


def forget(layout: Layout, template_id: int) -> None:
    """The template is gone."""
    _path(layout, template_id).unlink(missing_ok=True)


def why_missed(before: Sequence[Entry], now: Sequence[Entry], *, forced: bool, missed_before: bool) -> str:
    """Why the last entry of ``now`` has to run: which input differs from the last build's."""
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
