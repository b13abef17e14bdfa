"""What scripts/setup refuses before it touches anything."""

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


def test_check_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check", tmp_path / "scripts")
    result = subprocess.run([tmp_path / "scripts" / "check"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "scripts/setup" in result.stderr
