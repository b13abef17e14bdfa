"""What the pages for contributors name in the code is there: ``file:function``, and files of tests and scripts."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "contributing").glob("*.md"))
BASES = (ROOT, ROOT / "src" / "thawbox")
NEW = {
    "gateway/sandbox/load.py",
    "images/folder.py",
    "tests/unit/images/test_folder.py",
    "tests/unit/agent/protocol_v2.json",
}
"""Files that a guide has its reader make."""

_FILE = re.compile(r"`((?:[\w-]+/)*[\w-]+\.(?:py|md|json|toml))(?::(\w+(?:\.\w+)*))?`")
_TESTS = re.compile(r"(?<![\w/])tests/[\w/]+\b(?:\.py)?(?!\.json)")


def _find(name: str) -> Path | None:
    return next((base / name for base in BASES if (base / name).is_file()), None)


@cache
def _names(path: Path) -> frozenset[str]:
    """Functions, classes, methods as ``Class.method``, and constants of a module."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{child.name}"
                for child in node.body
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


def _missing(text: str) -> list[str]:
    missing = []
    for name, member in _FILE.findall(text):
        path = _find(name)
        if "/" not in name or name in NEW:
            continue
        if path is None or (member and member not in _names(path)):
            missing.append(f"{name}:{member}" if member else name)
    missing += [name for name in _TESTS.findall(text) if name not in NEW and not (ROOT / name).exists()]
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    assert _FILE.search(page.read_text()), "the search finds nothing"
    assert _missing(page.read_text()) == []


def test_what_is_not_there_is_noticed() -> None:
    page = "`server.py:serve` `node/containers.py:Node.thaw` `node/none.py` `node/slots.py:none` tests/unit/none.py"
    assert _missing(page) == ["node/none.py", "node/slots.py:none", "tests/unit/none.py"]
