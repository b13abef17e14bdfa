"""A fake server, and the command line pointed at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from thawbox.cli.main import cli

from . import fake_api as fake


@pytest.fixture
def server() -> Iterator[fake.Fake]:
    with fake.serve() as running:
        yield running


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own settings, and a state folder that is nobody's."""
    for name in list(os.environ):
        if name.startswith("THAWBOX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("THAWBOX_STATE", str(tmp_path / "state"))


Thaw = Callable[..., Result]


@pytest.fixture
def thaw() -> Thaw:
    """Run ``thaw ARGUMENTS`` with a fresh runner."""

    def run(*arguments: str, stdin: bytes | str | None = None) -> Result:
        result = CliRunner().invoke(cli, arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def logged_in(server: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> fake.Fake:
    """The fake, with the environment that reaches it."""
    monkeypatch.setenv("THAWBOX_URL", server.url)
    monkeypatch.setenv("THAWBOX_API_KEY", fake.KEY)
    return server
