"""Records of an earlier boot are discarded, those of this one are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from thawbox.node import boot
from thawbox.state import Layout


@pytest.fixture
def record(layout: Layout) -> Path:
    file = layout.containers / "sb-1.state"
    file.touch()
    return file


async def test_the_first_start(layout: Layout, record: Path, commands: list[list[str]]) -> None:
    """A state folder from before there was a note belongs to this boot."""
    assert await boot.discard_stale_records(layout) is False
    assert record.exists()
    assert layout.boot.read_text() == boot.current_boot()


async def test_a_restart_of_the_server(layout: Layout, record: Path, commands: list[list[str]]) -> None:
    await boot.discard_stale_records(layout)
    assert await boot.discard_stale_records(layout) is False
    assert record.exists()
    assert commands == []


async def test_a_reboot(layout: Layout, record: Path, commands: list[list[str]]) -> None:
    layout.boot.write_text("another boot")
    assert await boot.discard_stale_records(layout) is True
    assert commands == [["umount", "-n", str(layout.containers / "null-netns")]]
    assert list(layout.containers.iterdir()) == []
    assert layout.containers.stat().st_mode & 0o777 == 0o700
    assert await boot.discard_stale_records(layout) is False


async def test_no_half_note_is_left(layout: Layout, commands: list[list[str]]) -> None:
    await boot.discard_stale_records(layout)
    assert [path.name for path in layout.boot.parent.iterdir() if path.is_file()] == ["boot"]


def test_a_boot_is_the_kernels_and_that_of_process_1(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/sys/kernel/random/boot_id": "7d1f\n",
        # The name of a program may hold spaces and parentheses; the 22nd field is the start time.
        "/proc/1/stat": "1 (a (b) c) S " + " ".join(str(number) for number in range(4, 53)) + "\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    assert boot.current_boot() == "7d1f 22"
