"""What people install is whole, and what is released has a version with a date."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import thawbox

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "thawbox"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    builder = WheelBuilder(str(ROOT))
    (built,) = builder.build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    return zipfile.ZipFile(built)


def in_package(pattern: str) -> set[str]:
    """The files of the package that match, as the wheel should name them."""
    found = {f"thawbox/{path.relative_to(PACKAGE)}" for path in PACKAGE.glob(pattern) if path.is_file()}
    return {name for name in found if "__pycache__" not in name}


def test_the_wheel_holds_the_licence(wheel: zipfile.ZipFile) -> None:
    name = f"thawbox-{thawbox.__version__}.dist-info/licenses/LICENSE"
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in wheel.read(name)


@pytest.mark.parametrize(
    "pattern", ["py.typed", "**/python.yaml", "**/hooks/finish", "**/*.yaml", "**/hooks/*", "**/*"]
)
def test_the_wheel_holds_what_the_package_needs(wheel: zipfile.ZipFile, pattern: str) -> None:
    wanted = in_package(pattern)
    assert wanted
    assert wanted <= set(wheel.namelist())


def test_hooks_stay_executable(wheel: zipfile.ZipFile) -> None:
    hooks = in_package("**/hooks/*")
    assert hooks
    assert [name for name in hooks if not wheel.getinfo(name).external_attr >> 16 & 0o111] == []


def test_the_metadata_say_what_the_package_says(wheel: zipfile.ZipFile) -> None:
    folder = zipfile.Path(wheel, f"thawbox-{thawbox.__version__}.dist-info/")
    installed = metadata.PathDistribution(folder)
    assert installed.version == thawbox.__version__
    assert installed.metadata["License-Expression"] == "Apache-2.0"
    assert installed.metadata.get_all("License-File") == ["LICENSE"]


Release = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of version 1.2.3 with nothing but what the release looks at first."""
    for name in ("scripts", "src/thawbox"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "release", tmp_path / "scripts")
    (tmp_path / "src/thawbox/__init__.py").write_text('__version__ = "1.2.3"\n')
    git(tmp_path, "init", "--quiet")
    return tmp_path


@pytest.fixture
def release(project: Path) -> Release:
    """Commits this changelog and tries a release."""

    def attempt(changelog: str) -> subprocess.CompletedProcess[str]:
        (project / "CHANGELOG.md").write_text(changelog)
        git(project, "add", "--all")
        git(project, "commit", "--quiet", "--message", "all")
        return run_release(project)

    return attempt


def git(project: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, env=environment())


def run_release(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(project / "scripts/release"), "--dry-run"]
    return subprocess.run(command, capture_output=True, text=True, env=environment())


def environment() -> dict[str, str]:
    """Ours without what git sets for its hooks, which would mean this repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


@pytest.mark.parametrize(
    "changelog",
    [
        "# Changelog\n\n## [Unreleased]\n\n* new\n",
        "# Changelog\n\n## [1.2.3]\n\n* new\n",
        "# Changelog\n\n## [1.2.3] - soon\n\n* new\n",
        "# Changelog\n\n## [1.2.3] - 2026-11-29\n\n## [1.2.2] - 2026-11-28\n\n* new\n",
        "# Changelog\n\n## [11.2.3] - 2026-11-29\n\n* new\n",
        "# Changelog\n\n## [1x2.3] - 2026-11-29\n\n* new\n",
    ],
    ids=["unreleased", "undated", "no date", "empty", "another version", "not a pattern"],
)
def test_no_release_without_a_dated_section(release: Release, changelog: str) -> None:
    refused = release(changelog)
    assert refused.returncode == 1
    assert "CHANGELOG.md has no section '## [1.2.3] - YYYY-MM-DD'" in refused.stderr


def test_a_dated_section_is_enough_for_the_checks_to_begin(release: Release) -> None:
    tried = release("# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-11-29\n\n### Added\n\n* new\n")
    assert tried.returncode == 1
    assert tried.stderr == "scripts/release: no .venv here. Run: sudo scripts/setup\n"


def test_no_release_of_what_is_not_committed(release: Release, project: Path) -> None:
    release("## [1.2.3] - 2026-11-29\n\n* new\n")
    (project / "forgotten").touch()
    refused = run_release(project)
    assert refused.returncode == 1
    assert "commit or remove them first" in refused.stderr


def test_no_second_release_of_a_version(release: Release, project: Path) -> None:
    release("## [1.2.3] - 2026-11-29\n\n* new\n")
    git(project, "tag", "--annotate", "--message", "one", "v1.2.3")
    refused = run_release(project)
    assert refused.returncode == 1
    assert "there is a tag v1.2.3 already" in refused.stderr


def test_the_version_of_today_is_in_the_changelog() -> None:
    assert f"\n## [{thawbox.__version__}] - 2" in (ROOT / "CHANGELOG.md").read_text()
