"""Reads the recipes of the catalog. Each is a YAML file: a build request with a table ``catalogue``.

``thaw build`` and the API ignore the table, so a copy of a file is an ordinary recipe.
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
class EntryDescription:
    """What the API lists about a ready-made template."""

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
    """with the keys vcpu, memory_mb, disk_gb"""
    max_resources: Mapping[str, int]
    """with the same keys"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One ready-made template: a file of the catalog."""

    name: str
    request: Mapping[str, Any]
    """the build request as the file has it, without the table ``catalogue``"""
    about: EntryDescription

    def recipe(self, settings: Settings) -> Recipe:
        """The recipe to build.

        Raises:
            InvalidTemplate: the settings allow less than the recipe needs.
        """
        return parse_recipe(dict(self.request), settings=settings)


def entries() -> tuple[CatalogEntry, ...]:
    """All entries, the most popular first."""
    found = [_read(path) for path in _HERE.glob("*.yaml")]
    return tuple(sorted(found, key=lambda entry: (-entry.about.popularity_score, entry.name)))


def _read(path: Path) -> CatalogEntry:
    request = yaml.safe_load(path.read_text("utf-8"))
    about = request.pop(_TABLE)
    about["features"], about["tags"] = tuple(about["features"]), tuple(about["tags"])
    return CatalogEntry(name=request["name"], request=request, about=EntryDescription(**about))
