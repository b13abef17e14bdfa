"""The pages of docs/reference that are made from the code are up to date, and docs/index.md links every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from thawbox import errors
from thawbox.cli.reference import pages
from thawbox.errors import ThawboxError
from thawbox.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"
REFERENCE = DOCS / "reference"
SOURCE = Path(errors.__file__).parent


@pytest.mark.parametrize("name", ["settings.md", "cli.md", "errors.md", "metrics.md"])
def test_is_up_to_date(name: str) -> None:
    stale = "stale; run: .venv/bin/python -m thawbox.cli.reference docs/reference"
    assert (REFERENCE / name).read_text() == pages()[name], stale


def test_every_setting_is_there_once() -> None:
    page = pages()["settings.md"]
    for name in Settings.model_fields:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert not row.endswith("|  |"), f"{name} has no docstring in settings.py"


def test_every_error_code_is_in_the_table_with_its_meaning() -> None:
    rows = [line for line in pages()["errors.md"].splitlines() if re.match(r"\| [1-5][0-9][0-9] \|", line)]
    for error in _errors_below(ThawboxError):
        if error.__module__ == errors.__name__:
            prefix = f"| {error.status} | `{error.code}` | {error.title} | "
            (row,) = [line for line in rows if line.startswith(prefix)]
            assert row.removeprefix(prefix) != " |", f"{error.__name__} has no docstring"


def test_every_metric_is_there_once() -> None:
    page = pages()["metrics.md"]
    families = {family.name: family for family in REGISTRY.collect() if family.name.startswith("thawbox_")}
    assert len(families) > 5, "the registry has no metrics"
    for family in families.values():
        name = family.name + ("_total" if family.type == "counter" else "")
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` | {family.type} |")]
        assert row.endswith(f" | {family.documentation} |")


def test_error_codes_are_fixed_in_one_module() -> None:
    modules = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(r'^    code(: [^=]+)? = "[A-Z_]+"$', path.read_text(), re.M)
    }
    assert modules == {"errors.py"}, "errors.md lists the errors of errors.py alone"


def _errors_below(base: type[ThawboxError]) -> Iterator[type[ThawboxError]]:
    for error in base.__subclasses__():
        yield error
        yield from _errors_below(error)


def test_the_index_links_every_page() -> None:
    linked = {
        (DOCS / link).resolve()
        for link in re.findall(r"\]\(([^)#:]+\.md)(?:#[\w-]+)?\)", (DOCS / "index.md").read_text())
    }
    every = {page.resolve() for page in DOCS.rglob("*.md")} - {DOCS.resolve() / "index.md"}
    assert every - linked == set()
