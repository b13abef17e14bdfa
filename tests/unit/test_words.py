"""Retired words do not come back: names and phrases that only their author understood.

The words that are used instead are in docs/explanation/words.md. ``test_citations`` looks for retired citations.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
SOURCE = ROOT / "src" / "thawbox"
GLOSSARY = ROOT / "docs" / "explanation" / "words.md"

PLACES = ("src", "docs", "scripts", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".go", ".sh", ""}

CLASSES = {"Home", "Wish", "Visit", "Talk", "Asked", "Turns", "Parts", "Room", "House", "World", "Gate"}
RETIRED_CLASSES = {f"class {name}" for name in CLASSES}
"""Metaphors. Each class is called by what it is: SandboxContext, CreateRequest, PortRequest, KeyedLock."""

SPEECH = {"said", "told", "tell", "asked", "ask", "shown", "meant", "wish", "wishes", "visit", "talk"}
"""Parts of names that call the flow of data speech. Data is sent, received, requested, reported."""
PROTOCOL_NAMES = {"tell"}
"""``tell`` is a method of files in Python."""

SAME_NAME = {"BuildStatus"}
"""The API's model of this name is a component of the OpenAPI document; the other one is the enum of the database."""

PHRASES = {
    r"not to be had": "is not available",
    r"\bof ours\b": "of Thawbox, of the server",
    r"\b(?:that|which|it|one) (?:is|are) none\b(?! of)": "is not valid, is not a …",
    r"\b(?:is|are|was|were|be|been|being) told\b(?! apart)": "gets, receives; is called with",
    r"\b(?:is|was|were|be|been) said\b": "is reported, is printed, is logged",
    r"\b(?:what|who|as|than) (?:is|was|were) (?:asked|meant)\b": "the request, the argument",
    r"\basked for in vain\b": "was looked up and is missing",
    r"\b[Ww]ho(?:ever)? asks\b": "the caller, the client",
    r"(?:^|[.:\"])\s*Who (?:has|takes|asks|cannot|holds|gets|wants|reads)\b": "Whoever …, the caller …",
    r"\b(?:when|sense) to come back\b|, or come back\b": "how long to wait; or try again later",
    r"\bgave out\b": "issued",
    r"\bmade to forget\b": "cannot be restarted with empty memory",
    r"\bfor want of\b": "because … is missing",
    r"\bnobody else's\b": "exclusive",
    r"\bmemory images?\b": "snapshot",
    r"\broom of (?:its|their) own\b": "package",
    r"``(?:" + "|".join(sorted(CLASSES)) + r")``": "the new name of the class",
}
"""Each phrase, and what to write instead."""


def _files() -> Iterator[tuple[Path, str]]:
    for place in PLACES:
        start = ROOT / place
        paths = [start] if start.is_file() else sorted(start.rglob("*"))
        for path in paths:
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
            if path.is_file() and not hidden and path.suffix in SUFFIXES:
                yield path, path.read_text(encoding="utf-8", errors="replace")


def _phrases(text: str) -> list[str]:
    """Each retired phrase in ``text``, with its line and the remedy. A phrase may go over the end of a line."""
    joined = re.sub(r"\n *(?:# ?|\| )?", lambda space: "\n" + " " * (len(space[0]) - 1), text)
    found = []
    for phrase, instead in PHRASES.items():
        pattern = phrase.replace(" ", r"\s+")
        for match in re.finditer(pattern, joined, re.M):
            line = joined.count("\n", 0, match.start()) + 1
            found.append(f"{line}: {' '.join(match[0].split())!r}: write {instead!r}")
    return found


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every class, function, parameter and variable of a module, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, f"class {node.name}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def _retired_names(tree: ast.Module) -> list[str]:
    found = []
    for line, name in _names(tree):
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        if name in RETIRED_CLASSES or (words & SPEECH and name not in PROTOCOL_NAMES):
            found.append(f"{line}: {name}")
    return found


def test_no_retired_phrase() -> None:
    found = {str(path.relative_to(ROOT)): _phrases(text) for path, text in _files() if path != GLOSSARY}
    assert {"README.md", "src/thawbox/server.py", "scripts/check"} <= found.keys(), (
        "the search finds no files"
    )
    assert {path: phrases for path, phrases in found.items() if phrases} == {}


def test_no_retired_name() -> None:
    found = {str(path.relative_to(ROOT)): _retired_names(_parsed(path)) for path in SOURCE.rglob("*.py")}
    assert len(found) > 100, "the search finds no files"
    assert {path: names for path, names in found.items() if names} == {}


def test_no_two_classes_of_one_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCE.rglob("*.py"):
        for statement in _parsed(path).body:
            if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                places[statement.name].append(str(path.relative_to(SOURCE)))
    assert len(places) > 100, "the search finds no classes"
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SAME_NAME} == {}


def test_the_glossary_names_files_that_exist() -> None:
    rows = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.count(" | ") == 2]
    named = [name for row in rows for name in re.findall(r"`([\w./-]+(?:/|\.py))`", row.rpartition(" | ")[2])]
    assert len(named) > 40, "the glossary has no table"
    assert [name for name in named if not (SOURCE / name).exists()] == []


def test_pages_and_comments_name_files_that_exist() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in _files()
        for name in re.findall(r"`(src/thawbox/[\w./-]+)`", text) + _python_files(text)
        if not _exists(name, path)
    }
    assert missing == set()


def _python_files(text: str) -> list[str]:
    return re.findall(r"``([a-z_]+/[a-z_/]+\.py)``", text)


def _exists(name: str, path: Path) -> bool:
    bases = [ROOT, SOURCE, *path.parents]
    return any((base / name).exists() for base in bases if base.is_relative_to(ROOT))


@pytest.mark.parametrize(
    "text",
    [
        "base image 'x' is not to be had",
        "an exception of\n    # ours must not end it",
        "It has a pattern that is none.",
        "``pin`` is told the names",
        '"""Who has just got a sandbox runs a command."""',
        "end some, or come back",
        "The cursor is not one that this server gave out.",
        "the ``Wish`` of the caller",
    ],
)
def test_retired_phrases_are_found(text: str) -> None:
    assert _phrases(text)


@pytest.mark.parametrize(
    "text",
    [
        "None if there is none.",
        "Programs that you started do not come back.",
        "A room of 20 MB. The parts of a path. ``Path.home``",
        "It is none of these.",
        "Who can reach a program",
    ],
)
def test_ordinary_sentences_are_not(text: str) -> None:
    assert not _phrases(text)


@pytest.mark.parametrize(
    "source",
    ["class Visit: ...", "def ask(): ...", "def run(said): ...", "is_meant = 1", "class AskedFor: ..."],
)
def test_retired_names_are_found(source: str) -> None:
    assert _retired_names(ast.parse(source))


@pytest.mark.parametrize(
    "source", ["def tell(self): ...", "task = 1", "def parts(path): ...", "class HomePage: ..."]
)
def test_ordinary_names_are_not(source: str) -> None:
    assert not _retired_names(ast.parse(source))
