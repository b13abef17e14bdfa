from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from thawbox.util import atomic


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_at_the_end_of_the_block_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with atomic.replacing(target) as unfinished:
        unfinished.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == {"file"}


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    target, within = tmp_path / "folder", tmp_path / "tmp"
    within.mkdir()
    with atomic.replacing(target, within=within) as unfinished:
        assert unfinished.parent == within
        unfinished.mkdir()
        (unfinished / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert names(within) == set()


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_raises_leaves_nothing_new(tmp_path: Path, folder: bool) -> None:
    def make_half() -> None:
        with atomic.replacing(tmp_path / "it") as unfinished:
            if folder:
                unfinished.mkdir()
                (unfinished / "a").touch()
            else:
                unfinished.touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_half()
    assert names(tmp_path) == set()


def test_what_cannot_be_renamed_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").touch()

    def make() -> None:
        with atomic.replacing(target) as unfinished:
            unfinished.mkdir()
            (unfinished / "new").touch()

    with pytest.raises(OSError):
        make()
    assert names(tmp_path) == {"folder"}
    assert names(target) == {"kept"}


def test_a_block_that_makes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic.replacing(tmp_path / "file"):
        pass


def test_text_is_written_with_its_mode_and_synced_if_it_shall_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    atomic.write_text(tmp_path / "a", "quick")
    assert synced == []
    atomic.write_text(tmp_path / "b", "lasting", mode=0o600, durable=True)
    assert synced == [len("lasting")]
    assert (tmp_path / "b").read_text() == "lasting"
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    assert names(tmp_path) == {"a", "b"}


def test_sync_reaches_every_file_of_a_folder_and_the_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.touch()
    atomic.sync(paths[0])
    assert synced == {paths[0].stat().st_ino}
    atomic.sync(tmp_path)
    assert synced == {path.stat().st_ino for path in (*paths, tmp_path)}
