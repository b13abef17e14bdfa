"""Thawbox installed from its wheel into an empty environment: all of it works without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import server_of_its_own
from .server import Server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the pinned packages and the wheel; no path of it leads to the repository."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder),
        "--quiet",
        "--disable-pip-version-check",
        "install",
    ]
    packages = ["--require-hashes", "-r", str(ROOT / "requirements" / "run.txt")]
    for arguments in (packages, ["--no-deps", "--no-index", str(wheel)]):
        subprocess.run([*pip, "--no-compile", *arguments], check=True, env=clean())
    return folder


@pytest.fixture
def installed(environment: Path, server: Server, tmp_path: Path) -> Iterator[Server]:
    """A state folder, with the shared server's base images and nothing else, for the installed program."""
    with server_of_its_own(tmp_path, server, "python:3.11") as own:
        yield own


def clean() -> dict[str, str]:
    """This process's environment without what leads Python to the repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def thaw(environment: Path, server: Server, *arguments: str) -> str:
    """Run the installed ``thaw`` in an empty folder; what it printed. Fails the test if it fails."""
    folder = server.state.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    ports = {"THAWBOX_PORT": str(server.port), "THAWBOX_GATEWAY_PORT": str(server.gateway_port)}
    done = subprocess.run(
        [environment / "bin" / "thaw", *arguments],
        cwd=folder,
        env={**clean(), **ports, "THAWBOX_STATE": str(server.state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_sets_up_builds_and_thaws(environment: Path, installed: Server) -> None:
    printed = thaw(environment, installed, "setup")
    assert "self-test: " in printed
    assert (installed.state / "runtime" / "runsc").stat().st_mode & 0o111
    printed = thaw(environment, installed, "quickstart")
    assert "Thawed and ready: Python 3.11" in printed
    assert f"{environment}/bin/thaw serve" in printed.replace("\n", "")
    assert list((installed.state / "snapshots").glob("*/manifest.json"))


def test_nothing_but_the_package_is_in_the_wheel(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert len(names) == 2
    assert names == {"thawbox", next(name for name in names if name.endswith(".dist-info"))}
