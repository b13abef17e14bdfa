"""The tests' own rules: what a unit test may not do, and where shared helpers are."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import guard

TESTS = Path(__file__).parents[1]


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def connect() -> None:
    with socket.socket() as made:
        made.connect(("127.0.0.1", 9))


def bind() -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))


def bind_in_a_folder() -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("\0thawbox-test-of-the-guard")


def spawn() -> None:
    asyncio.run(asyncio.create_subprocess_exec("true"))


@pytest.mark.parametrize(
    "deed", [fork, connect, bind, bind_in_a_folder, spawn, lambda: subprocess.run(["true"], check=True)]
)
def test_a_unit_test_starts_nothing_and_connects_to_nothing(deed: Callable[[], object]) -> None:
    with pytest.raises(guard.NotAUnitTest), guard.enforced():
        deed()


def careless() -> None:
    with contextlib.suppress(guard.NotAUnitTest):
        bind()


def test_code_that_catches_the_refusal_fails_the_test_nevertheless() -> None:
    with pytest.raises(guard.NotAUnitTest, match=r"socket\.bind"), guard.enforced():
        careless()


def imported(file: Path) -> set[str]:
    """Every module, and every name in one, that the file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def test_no_test_module_is_imported() -> None:
    """pytest rewrites and collects test modules; what two of them need is in ``tests/support`` or ``helpers``."""
    modules = {file.stem for file in TESTS.rglob("test_*.py")}
    assert "test_layout" in modules
    wrong = {
        str(file.relative_to(TESTS)): sorted(found)
        for file in TESTS.rglob("*.py")
        if (found := {name for name in imported(file) if modules & set(name.split("."))})
    }
    assert wrong == {}
