"""Output of steps as lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.builder.step_output import LAST_LINES, LineWriter


def lines_of(*pieces: bytes, max_bytes: int = 100_000) -> list[str]:
    lines: list[str] = []
    writer = LineWriter(lines.append, max_bytes)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return lines


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((b"one\ntwo\n",), ["one", "two"]),
        ((b"on", b"e\ntw", b"o"), ["one", "two"]),
        ((b"\n\n",), ["", ""]),
        ((), []),
        ((b"10%\r50%\r100%\ndone\r\n",), ["100%", "done"]),
        ((b"10%\r", b"100%\n"), ["100%"]),
        (("ä".encode()[:1], "ä".encode()[1:]), ["ä"]),
        ((b"bad \xff byte", b"\xc3"), ["bad � byte�"]),
        ((b"\x1b[3", b"1mred\x1b[0m\n"), ["red"]),
    ],
)
def test_lines(pieces: tuple[bytes, ...], lines: list[str]) -> None:
    assert lines_of(*pieces) == lines


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)), st.data())
def test_how_the_output_is_cut_into_pieces_makes_no_difference(texts: list[str], data: st.DataObject) -> None:
    output = "".join(f"{text}\n" for text in texts).encode()
    cut = data.draw(st.integers(0, len(output)))
    assert lines_of(output[:cut], output[cut:]) == texts


def test_a_line_without_an_end_does_not_grow_for_ever() -> None:
    lines: list[str] = []
    writer = LineWriter(lines.append, 10**6)
    for _ in range(10):
        writer.write(b"x" * 1000)
    assert [len(line) for line in lines] == [4096, 4096]


def test_beyond_the_bound_one_line_says_so_and_the_last_lines_are_kept() -> None:
    lines: list[str] = []
    writer = LineWriter(lines.append, 12)
    for number in range(30):
        writer.write(b"line %d\n" % number)
    writer.close()
    assert lines == ["line 0", "… output beyond 12 bytes is left out"]
    kept = writer.last_lines().split("\n")
    assert kept[0] == ""
    assert kept[1:] == [f"line {number}" for number in range(30 - LAST_LINES, 30)]


def test_last_lines_are_short_and_empty_without_output() -> None:
    writer = LineWriter(lambda line: None, 10_000)
    assert writer.last_lines() == ""
    writer.write(b"y" * 3000 + b"\n")
    assert writer.last_lines() == "\n" + "y" * 500
