"""What scripts/setup refuses before it touches anything, and what scripts/check reports."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gets that far")


def setup(*arguments: str, user: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script, alone in its folder, so that nothing is set up whatever goes wrong."""
    argv = ["bash", "-s", "--", *arguments]
    if user:
        argv = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *argv]
    return subprocess.run(
        argv,
        input=(ROOT / "scripts" / "setup").read_text(),
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", ["setup", "quickstart", "test", "check"])
def test_is_a_sound_script(script: str) -> None:
    path = ROOT / "scripts" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_refuses_whoever_is_not_root() -> None:
    result = setup(user="65534" if os.geteuid() == 0 else None)
    assert result.returncode == 1
    assert "sudo scripts/setup" in result.stderr


@needs_root
def test_refuses_a_system_that_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('ID=arch\nPRETTY_NAME="Arch Linux"\n')
    result = setup(THAWBOX_OS_RELEASE=str(tmp_path / "os-release"))
    assert result.returncode == 1
    assert "this is Arch Linux; known are Debian 12, Debian 13 and Ubuntu 24.04" in result.stderr
    assert "--no-apt" in result.stderr


def test_refuses_arguments_that_it_does_not_know() -> None:
    result = setup("--everything")
    assert result.returncode == 2
    assert "--everything" in result.stderr


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a copy of scripts/check that finds its tools in ``folder``/.venv."""
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check", folder / "scripts")
    return subprocess.run([folder / "scripts" / "check"], capture_output=True, text=True, check=False)


def tools(folder: Path, **scripts: str) -> None:
    """Make the tools of scripts/check: each prints its arguments and passes, unless ``scripts`` has a body for it."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports"):
        path = folder / ".venv" / "bin" / name
        path.write_text(f"#!/bin/sh\n{scripts.get(name.replace('-', '_'), f'echo {name} ran: $*')}\n")
        path.chmod(0o755)


def test_check_says_what_it_needs(tmp_path: Path) -> None:
    result = check(tmp_path)
    assert result.returncode == 1
    assert "scripts/setup" in result.stderr
    assert "CONTRIBUTING.md" in result.stderr


def test_check_ends_with_one_line_if_all_passed(tmp_path: Path) -> None:
    tools(tmp_path)
    result = check(tmp_path)
    assert result.returncode == 0
    assert "ruff ran: format --check" in result.stdout
    assert "lint-imports ran" not in result.stdout
    assert result.stdout.splitlines()[-1] == "scripts/check: all 4 passed"


@pytest.mark.parametrize(
    ("scripts", "last"),
    [
        ({"ruff": "[ $1 = check ]"}, "ruff format --check (scripts/check --fix mends it)"),
        ({"ruff": "exit 1"}, "ruff check, ruff format --check (scripts/check --fix mends what it can)"),
        ({"mypy": "exit 1"}, "mypy"),
        ({"lint_imports": "echo a chain; exit 1"}, "lint-imports"),
    ],
)
def test_check_ends_with_what_failed(tmp_path: Path, scripts: dict[str, str], last: str) -> None:
    tools(tmp_path, **scripts)
    result = check(tmp_path)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == f"scripts/check: FAILED: {last}"
    assert ("a chain" in result.stdout) == ("lint_imports" in scripts)
