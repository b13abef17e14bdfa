"""The folders of the state folder."""

from __future__ import annotations

from pathlib import Path

from thawbox.state import Layout

FOLDERS = (
    "runtime", "containers", "bundles", "upper", "mounts", "tmp", "layers", "images", "snapshots", "paused", "logs",
    "uploads", "cache",
)  # fmt: skip


def test_every_folder_is_made_and_private(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "deep" / "state")
    layout.make()
    for name in FOLDERS:
        folder: Path = getattr(layout, name)
        assert folder.is_dir(), name
        assert folder.stat().st_mode & 0o777 == 0o700, name
    assert layout.state.stat().st_mode & 0o777 == 0o700


def test_no_two_things_share_a_path(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    paths = [getattr(layout, name) for name in (*FOLDERS, "lock", "control_socket", "boot")]
    assert len(set(paths)) == len(FOLDERS) + 3
    assert all(tmp_path in path.parents for path in paths)
    # What the next start removes must hold nothing that lasts.
    temporary = layout.tmp
    assert not any(temporary in path.parents for path in paths)


def test_paths_that_are_part_of_older_snapshots_or_known_to_operators(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    known = {name: str(getattr(layout, name).relative_to(tmp_path)) for name in (*FOLDERS, "boot", "lock")}
    assert known == {
        "runtime": "runtime",
        "containers": "run/runsc",
        "bundles": "run/bundles",
        "upper": "run/upper",
        "mounts": "run/mounts",
        "tmp": "tmp",
        "layers": "layers",
        "images": "images",
        "snapshots": "snapshots",
        "paused": "paused",
        "logs": "logs",
        "uploads": "uploads",
        "cache": "cache",
        "boot": "run/boot",
        "lock": "lock",
    }
    assert layout.control_socket == tmp_path / "control.sock"


def test_what_exists_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    (layout.layers / "kept").touch()
    layout.make()
    assert (layout.layers / "kept").exists()
