"""What the three readers of programs' output let through: step output of builds, the build log, the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.builder.log import clean
from thawbox.builder.step_output import LineWriter
from thawbox.cli.terminal import harmless
from thawbox.util.control_sequences import last_state, strip_controls


def step_line(text: str) -> str:
    lines: list[str] = []
    writer = LineWriter(lines.append, 10_000)
    writer.write(text.encode())
    writer.close()
    (line,) = lines
    return line


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[2K\x1b[1Gprogress", "progress"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;a title without an end", ""),
        ("\x1bMup", "up"),
        ("\x1b\x1b[0m[31mx", "[31mx"),
        ("10%\r50%\r100%", "100%"),
        ("\r\x1b[K 100%", " 100%"),
        ("dos\r", "dos"),
        ("nul\x00bell\x07del\x7f", "nulbelldel"),
        ("c1\x9b31mx", "c131mx"),
        ("two\u2028lines\u2029", "twolines"),
        ("Grüße ✓ 你好", "Grüße ✓ 你好"),
    ],
)
def test_no_reader_lets_through_what_steers_a_terminal(raw: str, seen: str) -> None:
    assert clean(raw) == seen
    assert harmless(raw) == seen
    assert step_line(raw) == seen


def test_each_reader_keeps_tabs_in_its_own_way() -> None:
    assert clean("a\tb") == "a    b"
    assert harmless("a\tb") == "a\tb"
    assert step_line("a\tb") == "a\tb"


def test_line_breaks_stay_on_the_command_line_and_go_from_the_log() -> None:
    assert harmless("a\nb") == "a\nb"
    assert clean("a\nb") == "ab"


def test_the_log_keeps_a_line_that_was_wiped_at_its_end() -> None:
    assert clean("100%\r\x1b[K") == "100%"
    assert harmless("100%\r\x1b[K") == ""
    assert step_line("100%\r\x1b[K") == ""


def test_a_title_ends_with_its_line() -> None:
    assert strip_controls("\x1b]0;title\nnext", keep="\n") == "\nnext"
    assert clean("\x1b]0;title\rnext") == "next"


def test_escape_is_never_kept() -> None:
    assert strip_controls("a\x1b", keep="\x1b") == "a"


def test_last_state() -> None:
    assert last_state("1\r2\r\r") == "2"
    assert last_state("") == ""


FORBIDDEN = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
PIECES = st.sampled_from(["\x1b", "[", "]", "0;", "m", "\x07", "\\", "\r", "\t", "\x9b", "\u2028", "text"])


@given(st.lists(PIECES | st.text(max_size=3)).map("".join))
def test_whatever_comes_no_control_character_stays(text: str) -> None:
    assert not FORBIDDEN & set(strip_controls(text))
    assert not FORBIDDEN & set(clean(text))
    assert not FORBIDDEN - {"\t", "\n"} & set(harmless(text))


@given(st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"])))
def test_text_without_controls_is_left_alone(text: str) -> None:
    assert strip_controls(text) == text
