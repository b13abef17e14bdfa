"""The mount of stacked layers: its command lines, and that nothing stays behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from thawbox import processes
from thawbox.builder import overlay
from thawbox.errors import RuntimeFault
from thawbox.snapshots.layers import Layer
from thawbox.state import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.make()
    return made


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path | None]]:
    """Command lines with their working folder; nothing is run. The one named ``refused`` fails."""
    ran: list[tuple[list[str], Path | None]] = []

    async def run(argv: list[str | os.PathLike[str]], *, cwd: Path | None = None, **_: Any) -> None:
        ran.append(([os.fspath(word) for word in argv], cwd))
        if any("refused" in os.fspath(word) for word in argv):
            raise RuntimeFault("mount ended with status 32")

    monkeypatch.setattr(processes, "run", run)
    return ran


def stack(layout: Layout, *names: str) -> list[Layer]:
    return [Layer(name, layout.layers / name) for name in names]


async def test_the_highest_layer_comes_first_and_names_are_relative(
    layout: Layout, commands: list[tuple[list[str], Path | None]]
) -> None:
    async with overlay.mounted(layout, stack(layout, "base", "middle", "top")) as tree:
        assert tree.parent == layout.mounts
        assert tree.is_dir()
    options = "ro,lowerdir=top/fs:middle/fs:base/fs"
    assert commands == [
        (["mount", "-n", "-t", "overlay", "overlay", "-o", options, str(tree)], layout.layers),
        (["umount", "-n", str(tree)], None),
    ]
    assert list(layout.mounts.iterdir()) == []


async def test_a_single_layer_needs_no_mount(
    layout: Layout, commands: list[tuple[list[str], Path | None]]
) -> None:
    async with overlay.mounted(layout, stack(layout, "base")) as tree:
        assert tree == layout.layers / "base" / "fs"
    assert commands == []


async def test_it_is_unmounted_whatever_happens_inside(
    layout: Layout, commands: list[tuple[list[str], Path | None]]
) -> None:
    with pytest.raises(ValueError, match="inside"):
        async with overlay.mounted(layout, stack(layout, "base", "top")):
            raise ValueError("inside")
    assert [argv[0] for argv, _ in commands] == ["mount", "umount"]
    assert list(layout.mounts.iterdir()) == []


async def test_a_refused_mount_leaves_nothing(
    layout: Layout, commands: list[tuple[list[str], Path | None]]
) -> None:
    with pytest.raises(RuntimeFault):
        async with overlay.mounted(layout, stack(layout, "base", "refused")):
            raise AssertionError("the block must not run")
    assert [argv[0] for argv, _ in commands] == ["mount"]
    assert list(layout.mounts.iterdir()) == []


async def test_leftovers_of_a_crash_are_unmounted(
    layout: Layout, commands: list[tuple[list[str], Path | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout.mounts / "mounted").mkdir()
    (layout.mounts / "empty").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "mounted")
    assert await overlay.unmount_leftovers(layout) == 1
    assert commands == [(["umount", "-n", "--lazy", str(layout.mounts / "mounted")], None)]
    assert list(layout.mounts.iterdir()) == []
