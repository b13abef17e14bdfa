"""The recipes of the catalogue: one YAML file each, a build request with a ``catalogue`` table.

``thaw build`` and the API ignore that table, so a copy of a file is an ordinary recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from thawbox.settings import Settings
from thawbox.templates.dialects import parse_recipe
from thawbox.templates.recipe import Recipe

_HERE = Path(__file__).parent
_TABLE = "catalogue"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the API shows of a ready-made template."""

    display_name: str
    description: str
    category: str
    language: str
    icon: str
    features: tuple[str, ...]
    tags: tuple[str, ...]
    docs_url: str
    popularity_score: int
    min_resources: Mapping[str, int]
    """vcpu, memory_mb, disk_gb"""
    max_resources: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the catalogue."""

    name: str
    request: Mapping[str, Any]
    """as it stands in the file"""
    about: About

    def recipe(self, settings: Settings) -> Recipe:
        """What to build.

        Raises:
            InvalidTemplate: this server allows less than it needs.
        """
        return parse_recipe(dict(self.request), settings=settings)


def entries() -> tuple[Entry, ...]:
    """All of them, the most asked for first."""
    found = [_read(path) for path in _HERE.glob("*.yaml")]
    return tuple(sorted(found, key=lambda entry: (-entry.about.popularity_score, entry.name)))


def _read(path: Path) -> Entry:
    request = yaml.safe_load(path.read_text("utf-8"))
    about = request.pop(_TABLE)
    about["features"], about["tags"] = tuple(about["features"]), tuple(about["tags"])
    return Entry(name=request["name"], request=request, about=About(**about))
