"""What code and pages point at is there: pages cited by the code, links of the pages, their anchors.

A stranger has nothing but this repository, so a reason that lies elsewhere cannot be checked.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())

_CITING = ("src", "tests", "docs", "README.md", "CONTRIBUTING.md")
_NOT_OURS = {"node_modules", "build-output"}
_TEXTS = {".py", ".md", ".ts", ".js", ".json", ".yaml", ".toml", ".sh", ""}

_CITATION = re.compile(r"(?<![\w/.])docs/[\w./-]+\.md(?:#[\w-]+)?")
_RETIRED = re.compile(
    r"\bcontract\s+[A-I](?:\.\d+|(?=[),.;:]))"  # a section of a document that is not here
    r"|\([A-I]\.\d+(?:, [A-I]\.\d+)*\)"
    r"|\bSEED-[A-Z]\b"
    r"|\bH-\d+\b"
)
_LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)|\b(?:href|src)=\"([^\"]+)\"", re.M
)
_FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1[`~]*\s*$", re.M | re.S)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.S)
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)(?:\s+#+)?\s*$", re.M)
_EXPLICIT = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")


def _below(start: Path) -> Iterator[Path]:
    if start.is_file():
        yield start
    for folder, folders, names in os.walk(start):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_OURS]
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(folder, name) for name in names if Path(name).suffix in _TEXTS)


def _texts(names: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    for name in names:
        for path in _below(ROOT / name):
            yield path, path.read_text(encoding="utf-8", errors="replace")


def _slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading: no marks, lower case, dashes for blanks."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    shown = re.sub(r"<[^>]+>", "", shown)
    return re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-")


def _anchors(markdown: str) -> set[str]:
    prose = _FENCED.sub("", markdown)
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in _HEADING.findall(prose):
        slug = _slug(heading)
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found | set(_EXPLICIT.findall(prose))


@cache
def _anchors_of(page: Path) -> set[str]:
    return _anchors(page.read_text(encoding="utf-8"))


def _broken_citations(text: str) -> list[str]:
    broken = []
    for cited in _CITATION.findall(text):
        name, _, slug = cited.partition("#")
        page = ROOT / name
        if not page.is_file() or (slug and slug not in _anchors_of(page)):
            broken.append(cited)
    return broken


def _links(markdown: str) -> list[str]:
    prose = _CODE.sub("", _FENCED.sub("", markdown))
    return [next(filter(None, found)) for found in _LINK.findall(prose)]


def _broken_links(page: Path, markdown: str) -> list[str]:
    broken = []
    for link in _links(markdown):
        if re.match(r"[a-zA-Z][\w+.-]*:|//", link):
            continue  # elsewhere in the world
        name, _, slug = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        there = target.exists() and target.is_relative_to(ROOT)
        is_page = target.suffix == ".md"
        if not there or (slug and (not is_page or slug not in _anchors_of(target))):
            broken.append(link)
    return broken


def test_every_cited_page_and_heading_is_there() -> None:
    broken = {str(path.relative_to(ROOT)): _broken_citations(text) for path, text in _texts(_CITING)}
    assert {path: cited for path, cited in broken.items() if cited} == {}


def test_the_code_cites_the_pages_on_compatibility() -> None:
    cited = {name for _, text in _texts(("src",)) for name in _CITATION.findall(text)}
    assert any(name.startswith("docs/reference/compatibility/") for name in cited), "the search finds nothing"


def test_every_link_of_every_page_leads_somewhere() -> None:
    pages = [path for path in _below(ROOT) if path.suffix == ".md"]
    assert ROOT / "README.md" in pages
    broken = {
        str(page.relative_to(ROOT)): _broken_links(page, page.read_text(encoding="utf-8")) for page in pages
    }
    assert {page: links for page, links in broken.items() if links} == {}


def test_nothing_cites_a_document_that_is_not_here() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in _texts(_CITING)
        if path != Path(__file__).resolve()
        for match in _RETIRED.finditer(text)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("Retries", "retries"),
        ("`public_host`", "public_host"),
        ("Pause, resume, stop, start", "pause-resume-stop-start"),
        ("What a client's [token](a.md#b) is", "what-a-clients-token-is"),
        ("A / B", "a--b"),
    ],
)
def test_anchors_are_those_of_github(heading: str, slug: str) -> None:
    assert _anchors(f"# {heading}\n") == {slug}


def test_anchors_of_equal_headings_and_of_what_is_no_heading() -> None:
    assert _anchors('# A\n\n## A\n\n```sh\n# not one\n```\n\n<a id="telling"></a>\n') == {
        "a",
        "a-1",
        "telling",
    }


def test_broken_citations_and_links_are_found() -> None:
    page = ROOT / "docs" / "reference" / "compatibility" / "index.md"
    missing, empty = "docs/reference/compat" + "/none.md", "docs/reference/compatibility/index" + ".md#none"
    assert _broken_citations(f"See {missing}, and {empty}.") == [missing, empty]
    assert _broken_links(
        page, "[a](none.md) [b](clients.md#none) [c](#none) `[d](none.md)` [e](../api.md)"
    ) == [
        "none.md",
        "clients.md#none",
        "#none",
    ]


@pytest.mark.parametrize(
    "old", ["contract E.2", "(contract A)", "contract\n    C.1", "SEED-B", "H-22", "(A.4)"]
)
def test_retired_citations_are_recognised(old: str) -> None:
    assert _RETIRED.search(f"As said ({old}).")


@pytest.mark.parametrize(
    "text", ["See ``source`` for the contract.", "contract A module keeps", "a UTF-8 name", "SEED=7"]
)
def test_ordinary_words_are_no_citations(text: str) -> None:
    assert not _RETIRED.search(text)
