"""CONTRIBUTING's table of packages is the import contract, and the picture of the layers shows it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("layers", ROOT / "scripts" / "layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_in_contributing_is_the_import_contract() -> None:
    layers = script().layers()
    assert len(layers) > 10
    assert [names for names, _ in script().table()] == layers


def test_the_contract_and_so_the_table_name_every_package() -> None:
    package = ROOT / "src" / "thawbox"
    there = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.stem for path in package.glob("*.py") if path.stem != "__init__"}
    assert {name for layer in script().layers() for name in layer} == there


def test_the_picture_is_up_to_date() -> None:
    drawn = script()
    assert drawn.PICTURE.read_text() == drawn.svg(), "stale; run: .venv/bin/python scripts/layers.py"
