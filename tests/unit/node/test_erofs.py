"""Making an EROFS image: the options, and that no half image is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thawbox import processes
from thawbox.errors import RuntimeFault
from thawbox.node import erofs


class FakeMkfs:
    """Writes the image, and fails after that if it shall."""

    def __init__(self) -> None:
        self.argv: list[str] = []
        self.fails = False

    async def __call__(self, argv: list[Any], **options: Any) -> None:
        self.argv = [str(word) for word in argv]
        assert options == {"timeout_s": 1800, "die_with_parent": True}
        Path(argv[-2]).write_bytes(b"image")
        if self.fails:
            raise RuntimeFault("mkfs.erofs ended with status 1")


@pytest.fixture
def mkfs(monkeypatch: pytest.MonkeyPatch) -> FakeMkfs:
    fake = FakeMkfs()
    monkeypatch.setattr(processes, "run", fake)
    return fake


async def test_what_gvisor_can_read(mkfs: FakeMkfs, tmp_path: Path) -> None:
    await erofs.make(tmp_path / "tree", tmp_path / "a.erofs")
    program, *options, image, tree = mkfs.argv
    assert program == "mkfs.erofs"
    assert options == ["-x-1", "-E", "noinline_data", "--quiet"]
    assert tree == str(tmp_path / "tree")
    assert image != str(tmp_path / "a.erofs")  # until it is whole
    assert [path.name for path in tmp_path.iterdir()] == ["a.erofs"]
    assert (tmp_path / "a.erofs").read_bytes() == b"image"


async def test_a_failure_leaves_nothing(mkfs: FakeMkfs, tmp_path: Path) -> None:
    mkfs.fails = True
    with pytest.raises(RuntimeFault):
        await erofs.make(tmp_path / "tree", tmp_path / "a.erofs")
    assert list(tmp_path.iterdir()) == []
