"""Every command explains itself, with examples."""

from __future__ import annotations

import pytest

from tests.support.command_line import Thaw
from thawbox.cli.main import cli
from thawbox.cli.reference import commands


@pytest.mark.parametrize("path", [path for path, _ in commands(cli, ()) if path], ids=" ".join)
def test_help_has_an_example(thaw: Thaw, path: tuple[str, ...]) -> None:
    result = thaw(*path, "--help")
    assert result.exit_code == 0
    assert f"thaw {' '.join(path)}" in result.stdout.partition("Example")[2]


def test_the_fixed_names_are_there() -> None:
    wanted = {"serve", "keys", "build", "templates", "run", "ps", "rm", "gc", "doctor"}
    assert wanted <= {path[0] for path, _ in commands(cli, ()) if path}


def test_unknown_commands_are_wrong_usage(thaw: Thaw) -> None:
    assert thaw("nope").exit_code == 2
