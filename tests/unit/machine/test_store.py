"""The folder that all state folders of a machine share: what is believed, and two set-ups at once."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.machine.store import Store, is_private, link_or_copy

SUBJECT = {"runsc": "a" * 64, "agent": "agent-1.erofs", "kernel": "6.1.0"}
WAIT_S = 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "shared")
    made.make()
    return made


def only_verdict(store: Store) -> Path:
    (path,) = (store.folder / "verdicts").iterdir()
    return path


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``path`` belong to somebody who is neither root nor we."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr("thawbox.machine.store.os.geteuid", lambda: 12345)


def nothing() -> None: ...


def test_a_verdict_is_found_again_for_the_very_same_subject(store: Store) -> None:
    assert not store.has_verdict(SUBJECT)
    store.keep_verdict(SUBJECT)
    assert Store(store.folder).has_verdict(dict(reversed(SUBJECT.items())))
    assert not store.has_verdict({**SUBJECT, "kernel": "6.1.1"})
    assert not store.has_verdict({**SUBJECT, "more": ""})


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_verdict_that_others_may_write_is_not_believed(store: Store, mode: int) -> None:
    store.keep_verdict(SUBJECT)
    only_verdict(store).chmod(mode)
    assert not store.has_verdict(SUBJECT)


@pytest.mark.parametrize("folder", [".", "verdicts"])
@pytest.mark.parametrize("mode", [0o770, 0o703])
def test_a_verdict_in_a_folder_that_others_may_write_is_not_believed(
    store: Store, folder: str, mode: int
) -> None:
    store.keep_verdict(SUBJECT)
    (store.folder / folder).chmod(mode)
    assert not store.has_verdict(SUBJECT)


def test_a_verdict_of_somebody_else_is_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep_verdict(SUBJECT)
    give_away(only_verdict(store), monkeypatch)
    assert not store.has_verdict(SUBJECT)


def test_a_link_to_a_verdict_is_not_believed(store: Store, tmp_path: Path) -> None:
    store.keep_verdict(SUBJECT)
    path = only_verdict(store)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not store.has_verdict(SUBJECT)


@pytest.mark.parametrize("content", ["", '{"runsc": ', "[]", "{}"])
def test_a_damaged_verdict_is_not_believed(store: Store, content: str) -> None:
    store.keep_verdict(SUBJECT)
    only_verdict(store).write_text(content)
    assert not store.has_verdict(SUBJECT)


def test_verdicts_are_for_root_alone(store: Store) -> None:
    store.keep_verdict(SUBJECT)
    modes = [
        path.stat().st_mode & 0o777
        for path in (store.folder, only_verdict(store).parent, only_verdict(store))
    ]
    assert modes == [0o700, 0o700, 0o600]


def test_a_reader_never_meets_half_a_verdict(store: Store) -> None:
    store.keep_verdict(SUBJECT)

    def write() -> None:
        for _ in range(50):
            store.keep_verdict(SUBJECT)

    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(write) for _ in range(3)]
        while not all(writer.done() for writer in writers):
            assert store.has_verdict(SUBJECT)
        for writer in writers:
            writer.result()
    assert only_verdict(store).suffix == ".json"


def test_a_verdict_that_cannot_be_written_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("thawbox.util.atomic.os.fsync", full)
    with pytest.raises(OSError, match="full"):
        store.keep_verdict(SUBJECT)
    assert list((store.folder / "verdicts").iterdir()) == []


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(RuntimeFault, match="THAWBOX_SHARED_RUNTIME"):
        Store(folder).make()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeFault, match=f"{tmp_path}/file/shared cannot be made .*THAWBOX_SHARED_RUNTIME"):
        Store(tmp_path / "file" / "shared").make()


def test_a_sticky_folder_above_is_fine(tmp_path: Path) -> None:
    above = tmp_path / "like-tmp"
    above.mkdir()
    file = above / "mine"
    file.touch(0o600)
    above.chmod(0o1777)
    assert is_private(file)
    above.chmod(0o777)
    assert not is_private(file)


def test_one_set_up_at_a_time(store: Store) -> None:
    waits, entered = threading.Event(), threading.Event()

    def second() -> None:
        with store.locked(waits.set):
            entered.set()

    thread = threading.Thread(target=second)
    with store.locked(nothing):
        thread.start()
        assert waits.wait(WAIT_S)
        assert not entered.is_set()
    thread.join(WAIT_S)
    assert entered.is_set()


def test_who_gets_the_lock_at_once_is_not_told_to_wait(store: Store) -> None:
    waits = threading.Event()
    with store.locked(waits.set):
        pass
    assert not waits.is_set()


def test_what_a_killed_set_up_left_goes(store: Store) -> None:
    with store.locked(nothing):
        left = store.workspace()
        folder = left.__enter__()  # a killed program leaves no block
        (folder / "half").write_text("made")
    with store.locked(nothing):
        assert not folder.exists()


def test_runsc_is_found_by_its_sources(store: Store, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.write_text("program")
    built.chmod(0o755)
    assert store.find_runsc("sources") is None
    kept = store.keep_runsc("sources", built)
    assert store.find_runsc("sources") == kept
    assert store.find_runsc("other sources") is None
    kept.chmod(0o775)
    assert store.find_runsc("sources") is None


def test_runsc_that_no_state_folder_uses_goes_when_another_comes(store: Store, tmp_path: Path) -> None:
    for name in ("unused", "used", "new"):
        with store.locked(nothing), store.workspace() as folder:
            (folder / "runsc").write_text(name)
            (folder / "runsc").chmod(0o755)
            kept = store.keep_runsc(name, folder / "runsc")
        if name == "used":
            link_or_copy(kept, tmp_path / "runsc")
    assert store.find_runsc("unused") is None
    assert store.find_runsc("used") is not None
    assert store.find_runsc("new") is not None


def test_a_second_name_takes_no_space_and_replaces_what_was_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    target.write_text("old")
    link_or_copy(source, target)
    assert target.samefile(source)
    link_or_copy(source, target)  # again: rename(2) would keep both names of one file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_another_file_system_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr("thawbox.machine.store.os.link", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("program")
    source.chmod(0o755)
    link_or_copy(source, target)
    assert target.read_text() == "program"
    assert os.access(target, os.X_OK)
    assert not target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
