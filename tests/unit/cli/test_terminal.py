"""How times, sizes and foreign text are shown."""

from __future__ import annotations

import pytest

from thawbox.cli.terminal import coarse, duration, harmless, print_table, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0008, "0.8 ms"),
        (0.0521, "52 ms"),
        (4.24, "4.2 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (3599.6, "1 h")])
def test_coarse(seconds: float, text: str) -> None:
    assert coarse(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3 * 10**9, "3.0 GB"), (10**13, "10.0 TB")],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("plain\ttab ❌", "plain\ttab ❌"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;AAAA", ""),
        ("\x1bPq#0\x1b\\after", "q#0after"),
        ("a\x00b\x07c\x7fd\x85e", "abcde"),
        ("10%\r100%\r", "100%"),
    ],
)
def test_harmless(line: str, text: str) -> None:
    assert harmless(line) == text


def test_a_table_that_is_piped_is_as_wide_as_it_has_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ["a" * 100, "b" * 100]
    print_table(("one", "two"), [cells])
    assert capsys.readouterr().out.splitlines()[-1].split() == cells
