"""``thaw setup`` before it touches anything, and what ``thaw quickstart`` needs of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Thaw
from thawbox.cli import setup as command
from thawbox.errors import RuntimeFault
from thawbox.machine import install, packages


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine that lacks umoci until that is installed; the list holds what was done to it."""
    done: list[str] = []
    missing = ["umoci"]

    def install_packages(names: list[str]) -> None:
        done.append(f"apt {' '.join(names)}")
        missing.clear()

    monkeypatch.setattr(command, "require_machine", lambda: None)
    monkeypatch.setattr(command, "install", lambda settings, _report: done.append(f"set up {settings.state}"))
    monkeypatch.setattr(packages, "missing_packages", lambda _settings: list(missing))
    monkeypatch.setattr(packages, "install_packages", install_packages)
    return done


def test_missing_packages_are_named_and_nothing_is_built(thaw: Thaw, machine: list[str]) -> None:
    result = thaw("setup")
    assert result.exit_code == 1
    assert "packages are missing: umoci" in result.stderr
    assert "sudo thaw setup --install-packages" in result.stderr
    assert machine == []


def test_missing_packages_are_installed_when_asked_for(
    thaw: Thaw, machine: list[str], tmp_path: Path
) -> None:
    result = thaw("setup", "--install-packages", "--state", str(tmp_path))
    assert result.exit_code == 0
    assert machine == ["apt umoci", f"set up {tmp_path}"]


def test_packages_that_are_missing_all_the_same_are_named(
    thaw: Thaw, machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "install_packages", lambda _names: None)
    assert "packages are missing: umoci" in thaw("setup", "--install-packages").stderr
    assert machine == []


def test_only_root_sets_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawbox.machine.install.os.geteuid", lambda: 1000)
    with pytest.raises(RuntimeFault, match="sudo thaw setup"):
        install.require_machine()


def test_only_x86_64_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawbox.machine.install.os.geteuid", lambda: 0)
    monkeypatch.setattr("thawbox.machine.install.platform.machine", lambda: "aarch64")
    with pytest.raises(RuntimeFault, match="this machine is aarch64"):
        install.require_machine()


def test_quickstart_says_that_setup_comes_first(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawbox.node.installed.DEFAULT_STATE", Path("/nowhere"))
    monkeypatch.setenv("PATH", "/nowhere")
    result = thaw("quickstart")
    assert result.exit_code == 1
    assert "run sudo thaw setup" in result.stderr
