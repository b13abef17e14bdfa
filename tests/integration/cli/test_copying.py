"""``thaw cp``: its arguments. What it does is tested against the real gateway."""

from __future__ import annotations

import pytest

from tests.support.command_line import Thaw
from tests.support.fake_api import Fake


@pytest.mark.parametrize(
    "arguments", [("a", "b"), ("x:/a", "y:/b"), ("a", "x:relative"), ("-", "-"), ("a\n", "x:/b")]
)
def test_one_side_is_inside(logged_in: Fake, thaw: Thaw, arguments: tuple[str, str]) -> None:
    assert thaw("cp", *arguments).exit_code == 2
    assert not logged_in.seen


def test_an_unknown_sandbox_is_one_sentence(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("cp", "a", "nobody:/b")
    assert (result.exit_code, result.stderr) == (1, "thaw: Sandbox not found.\n")


def test_a_source_that_is_not_there_is_one_sentence(logged_in: Fake, thaw: Thaw) -> None:
    thaw("run", "hello", "--keep")
    result = thaw("cp", "/nothing/here", "sandbox0:/b")
    assert (result.exit_code, result.stderr) == (1, "thaw: /nothing/here does not exist on this machine.\n")
