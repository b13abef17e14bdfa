"""What runs on the template's own Python: sources that Python 3.8 can read, in files that a person can."""

import ast
from pathlib import Path

import pytest

import thawbox.agent

PYTHON = Path(thawbox.agent.__file__).parent / "python"
SOURCES = sorted(PYTHON.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_python_3_8_can_read_it(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_every_module_that_one_imports_lies_beside_it() -> None:
    """Templates have no package of Thawbox, so imports are of plain names."""
    wanted = {
        name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported(node)
        if name.startswith("thawbox")
    }
    assert {"thawbox_cells", "thawbox_kernel", "thawbox_rich"} <= wanted
    # ``thawbox_run`` is ``run`` itself: it registers under that name.
    assert wanted - {"thawbox_run"} <= {path.stem for path in SOURCES}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def test_starting_a_kernel_that_runs_imports_no_more_than_it_needs() -> None:
    tree = ast.parse((PYTHON / "kernel.py").read_text())
    at_start = {name for node in tree.body for name in imported(node)}
    assert at_start == {"argparse", "fcntl", "os", "socket", "stat", "sys"}
