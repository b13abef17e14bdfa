"""How client commands find the server and log in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import fake_api as fake
from tests.support.command_line import Thaw
from tests.support.fake_api import Fake
from thawbox.cli.client import is_loopback


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_no_server_is_one_sentence_with_the_remedy(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("THAWBOX_URL", url)
    result = thaw("ps")
    assert result.exit_code == 1
    assert result.stderr == (
        f"thaw: No server answers at {url}. Start one with 'sudo thaw serve', or set THAWBOX_URL.\n"
    )


def test_on_the_servers_machine_no_key_is_needed(
    server: Fake, thaw: Thaw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "local.key").write_text(fake.KEY + "\n")
    monkeypatch.setenv("THAWBOX_URL", server.url)
    assert thaw("ps").exit_code == 0


def test_the_key_of_the_environment_wins(
    server: Fake, thaw: Thaw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "local.key").write_text(fake.KEY)
    monkeypatch.setenv("THAWBOX_URL", server.url)
    monkeypatch.setenv("THAWBOX_API_KEY", "wrong")
    result = thaw("ps")
    assert result.exit_code == 1
    assert "Invalid API key. Set THAWBOX_API_KEY" in result.stderr


def test_the_local_key_never_goes_to_another_machine(
    thaw: Thaw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "local.key").write_text(fake.KEY)
    monkeypatch.setenv("THAWBOX_URL", "http://192.0.2.1:7070")
    result = thaw("ps")
    assert result.exit_code == 1
    assert "No key for http://192.0.2.1:7070" in result.stderr


def test_a_proxy_does_not_stand_between_programs_on_one_machine(
    logged_in: Fake, thaw: Thaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert thaw("ps").exit_code == 0


def test_what_is_no_thawbox_is_told_apart(
    logged_in: Fake, thaw: Thaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THAWBOX_URL", logged_in.url + "/not-json?")
    result = thaw("ps")
    assert result.exit_code == 1
    assert "Does THAWBOX_URL name a Thawbox server?" in result.stderr


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:7070", "http://", "http://x:port"])
def test_a_url_that_is_none_is_named(thaw: Thaw, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("THAWBOX_URL", url)
    result = thaw("ps")
    assert result.exit_code == 1
    assert repr(url) in result.stderr


def test_a_wrong_setting_names_it_and_the_places_it_may_come_from(
    thaw: Thaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THAWBOX_PORT", "eighty")
    result = thaw("ps")
    assert result.exit_code == 2
    assert "port = 'eighty'" in result.stderr
    assert "THAWBOX_CONFIG" in result.stderr


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:7070", True),
        ("http://127.8.0.1", True),
        ("http://[::1]:7070", True),
        ("http://localhost:7070", True),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://10.0.0.1", False),
    ],
)
def test_loopback(url: str, local: bool) -> None:
    assert is_loopback(url) is local
