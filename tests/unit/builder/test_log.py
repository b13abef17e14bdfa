from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.builder.log import MAX_MESSAGE, BuildLog, clean, read_entries, read_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "1.log"


def test_line_has_the_fixed_form(path: Path) -> None:
    with BuildLog.open(path) as log:
        log.write("INFO", "step 1 of 2: RUN true")
        log.write("ERROR", "exit status 1")
    for line, end in zip(
        path.read_text().splitlines(), ("INFO  step 1 of 2: RUN true", "ERROR exit status 1"), strict=True
    ):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z " + re.escape(end), line)
    assert path.stat().st_mode & 0o777 == 0o600


def test_entries_can_be_read_on_from_a_position(path: Path) -> None:
    with BuildLog.open(path) as log:
        log.write("INFO", "one\ntwo ✓\n")
        first, position = read_entries(path, 0)
        log.write("WARN", "three")
        second, _ = read_entries(path, position)
    assert [(entry.level, entry.message) for entry in first + second] == [
        ("INFO", "one"),
        ("INFO", "two ✓"),
        ("WARN", "three"),
    ]
    assert first[0].timestamp.endswith("Z")


def test_offsets_count_characters_not_bytes(path: Path) -> None:
    with BuildLog.open(path) as log:
        log.write("INFO", "äöü")
        log.write("INFO", "next")
    assert read_text(path, 0) == ("äöü\nnext\n", 9)
    assert read_text(path, 4) == ("next\n", 9)
    assert read_text(path, 2) == ("ü\nnext\n", 9)
    assert read_text(path, 9) == ("", 9)
    assert read_text(path, 100) == ("", 100)
    assert read_text(path, -5) == ("äöü\nnext\n", 9)


def test_missing_log_is_empty(path: Path) -> None:
    assert read_text(path, 0) == ("", 0)
    assert read_entries(path, 0) == ([], 0)


def test_half_a_line_is_not_read_and_is_dropped_when_the_log_is_opened_again(path: Path) -> None:
    with BuildLog.open(path) as log:
        log.write("INFO", "whole")
    with path.open("ab") as file:
        file.write(b"2026-01-01T00:00:03.123Z INFO  ha")
    assert read_text(path, 0) == ("whole\n", 6)
    with BuildLog.open(path) as log:
        log.write("INFO", "on")
    assert read_text(path, 0) == ("whole\non\n", 9)


def test_full_log_says_so_once_and_keeps_the_reason_of_a_failure(path: Path) -> None:
    with BuildLog.open(path, max_bytes=500) as log:
        for _ in range(50):
            log.write("INFO", "x" * 50)
        log.write("ERROR", "step 3: exit status 1")
    text, _ = read_text(path, 0)
    assert text.count("only warnings and errors") == 1
    assert text.endswith("step 3: exit status 1\n")
    assert len(text) < 1000


def test_endless_errors_are_bounded_too(path: Path) -> None:
    with BuildLog.open(path, max_bytes=1000) as log:
        for _ in range(2000):
            log.write("ERROR", "x" * 1000)
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r50%\r100%", "100%"),
        ("dos\r", "dos"),
        ("a\tb", "a    b"),
        ("nul\x00bell\x07", "nulbell"),
        ("y" * (MAX_MESSAGE + 1), "y" * MAX_MESSAGE + " …"),
    ],
)
def test_output_of_programs_is_made_readable(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(st.lists(st.text(), min_size=1))
def test_whatever_is_written_stays_one_entry_a_line(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.log"
    with BuildLog.open(path) as log:
        for text in texts:
            log.write("INFO", text)
    entries, position = read_entries(path, 0)
    assert position == path.stat().st_size
    assert len(entries) == sum(len(text.rstrip("\r\n").split("\n")) for text in texts)
    assert {entry.level for entry in entries} == {"INFO"}
    whole, end = read_text(path, 0)
    assert (whole, end) == ("".join(f"{entry.message}\n" for entry in entries), len(whole))
