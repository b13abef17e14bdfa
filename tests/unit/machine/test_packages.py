"""Which system packages are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.machine import packages
from thawbox.settings import load


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "_SYSTEM_FOLDERS", "")
    return tmp_path


def add(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()
        (folder / name).chmod(0o755)


def test_the_list_for_scripts_names_the_same_packages() -> None:
    names = packages.PACKAGE_LIST.read_text().splitlines()
    assert names == list(packages.needed_packages(load(image_sources=("registry", "bootstrap"))))


def test_packages_are_missing_until_their_program_is_there(programs: Path) -> None:
    settings = load(image_sources=("registry",))
    missing = set(packages.missing_packages(settings))
    assert {"erofs-utils", "iproute2", "nftables", "skopeo", "tar", "umoci"} <= missing
    add(programs, "mkfs.erofs", "skopeo")
    assert missing - set(packages.missing_packages(settings)) == {"erofs-utils", "skopeo"}


def test_only_what_the_image_sources_need_is_missing(programs: Path) -> None:
    missing = packages.missing_packages(load(image_sources=("bootstrap",)))
    assert {"mmdebstrap", "zstd"} <= set(missing)
    assert not {"skopeo", "umoci"} & set(missing)


@pytest.mark.parametrize("there", [0, 1])
def test_of_several_paths_one_is_enough(
    there: int, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (str(tmp_path / "keyring.gpg"), str(tmp_path / "keyring.pgp"))
    monkeypatch.setitem(packages._FOR_SOURCE, "bootstrap", {"debian-archive-keyring": paths})
    settings = load(image_sources=("bootstrap",))
    assert "debian-archive-keyring" in packages.missing_packages(settings)
    Path(paths[there]).touch()
    assert "debian-archive-keyring" not in packages.missing_packages(settings)


def test_without_apt_the_packages_are_named(programs: Path) -> None:
    with pytest.raises(RuntimeFault, match=r"no apt-get .* counterparts of umoci zstd"):
        packages.install_packages(["umoci", "zstd"])
