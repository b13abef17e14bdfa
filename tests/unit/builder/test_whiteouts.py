"""Whiteouts that hide nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from thawbox.builder import whiteouts
from thawbox.builder.whiteouts import remove_pointless


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """An empty layer. Since Linux 5.8, anybody may make whiteouts."""
    folder = tmp_path / "layer"
    folder.mkdir()
    try:
        whiteout(folder / "try")
    except PermissionError:
        pytest.skip("this machine lets only root make whiteouts")
    (folder / "try").unlink()
    return folder


@pytest.fixture
def below(tmp_path: Path) -> Path:
    folder = tmp_path / "below"
    folder.mkdir()
    return folder


def whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def left(layer: Path) -> list[str]:
    return sorted(str(path.relative_to(layer)) for path in layer.rglob("*") if not path.is_dir())


def test_those_that_hide_something_stay(layer: Path, below: Path) -> None:
    whiteout(layer / "etc" / "gone")
    whiteout(layer / "etc" / "temporary")
    file(layer / "etc" / "new")
    file(below / "etc" / "gone")
    assert remove_pointless(layer, below) == 1
    assert left(layer) == ["etc/gone", "etc/new"]


def test_a_folder_that_is_new_hides_nothing(layer: Path, below: Path) -> None:
    whiteout(layer / "new" / "deeper" / "x")
    whiteout(layer / "file" / "x")
    file(below / "file")
    assert remove_pointless(layer, below) == 2
    assert left(layer) == []


def test_a_link_below_is_hidden_and_not_followed(layer: Path, below: Path) -> None:
    whiteout(layer / "dangling")
    whiteout(layer / "folder" / "x")
    file(below / "target" / "x")
    (below / "dangling").symlink_to("nowhere")
    (below / "folder").symlink_to("target")
    assert remove_pointless(layer, below) == 1
    assert left(layer) == ["dangling"]


def test_a_link_in_the_layer_is_not_followed(layer: Path, below: Path, tmp_path: Path) -> None:
    whiteout(tmp_path / "outside" / "x")
    (layer / "link").symlink_to(tmp_path / "outside")
    assert remove_pointless(layer, below) == 0
    assert os.path.lexists(tmp_path / "outside" / "x")


def test_a_pipe_is_no_whiteout(layer: Path, below: Path) -> None:
    os.mkfifo(layer / "pipe")
    assert remove_pointless(layer, below) == 0
    assert left(layer) == ["pipe"]


def test_a_folder_that_replaces_the_one_below_hides_nothing(
    layer: Path, below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root may set the real attribute, ``trusted.overlay.opaque``."""
    monkeypatch.setattr(whiteouts, "_OPAQUE", "user.overlay.opaque")
    whiteout(layer / "replaced" / "x")
    whiteout(layer / "merged" / "x")
    for name in ("replaced", "merged"):
        file(below / name / "x")
    try:
        os.setxattr(layer / "replaced", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("the file system of temporary files has no extended attributes")
    assert remove_pointless(layer, below) == 1
    assert left(layer) == ["merged/x"]
