"""Every file of the catalogue is a recipe, and has all that the API shows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

import thawbox.catalog
from thawbox.catalog.entries import CatalogEntry, entries
from thawbox.settings import load
from thawbox.templates.dialects import parse_recipe

FILES = sorted(Path(thawbox.catalog.__file__).parent.glob("*.yaml"))
ENTRIES = entries()
LARGE = load()


def test_names_of_the_published_examples_are_there() -> None:
    wanted = {
        "code-interpreter",
        "python",
        "python-3.11",
        "nodejs",
        "nodejs-18",
        "nodejs-20",
        "ubuntu",
        "base",
    }
    assert wanted <= {entry.name for entry in ENTRIES}
    assert ENTRIES[0].name == "code-interpreter"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_is_a_recipe_as_it_stands(file: Path) -> None:
    request: dict[str, Any] = yaml.safe_load(file.read_text())
    recipe = parse_recipe(request, settings=LARGE)
    assert recipe.name == file.stem
    assert (recipe.cpu, recipe.memory_mb, recipe.disk_gb) == (
        request["cpu"],
        request["memory"],
        request["diskGB"],
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_has_every_field(entry: CatalogEntry) -> None:
    about = asdict(entry.about)
    assert [name for name, value in about.items() if not value] == []
    recipe = entry.recipe(LARGE)
    size = {"vcpu": recipe.cpu, "memory_mb": recipe.memory_mb, "disk_gb": recipe.disk_gb}
    for key, amount in size.items():
        assert entry.about.min_resources[key] <= amount <= entry.about.max_resources[key], key


def test_code_interpreter_is_warm() -> None:
    recipe = ENTRIES[0].recipe(LARGE)
    assert (recipe.warm, recipe.kernel) == (("numpy", "pandas", "matplotlib.pyplot"), True)
