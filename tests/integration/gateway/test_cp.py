"""``thaw cp`` against the real gateway and agent."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.support.gateway import Live
from thawbox.cli import copying
from thawbox.cli.failure import Failure
from thawbox.cli.placing import place_archive
from thawbox.errors import UserError

BYTES = bytes(range(256)) * 5000


async def copy(
    live: Live, way: Callable[[httpx.Client, str, str], None], source: object, target: object
) -> None:
    def run() -> None:
        url = live.url.replace("ws://", "http://")
        with httpx.Client(base_url=url, headers=live.gate.token(), trust_env=False) as gateway:
            way(gateway, str(source), str(target))

    await asyncio.to_thread(run)


def tree(top: Path) -> Path:
    """A folder with all that can be copied."""
    (top / "deep" / "empty").mkdir(parents=True)
    (top / "deep" / "data").write_bytes(BYTES)
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o750)
    (top / "link").symlink_to("deep/data")
    return top


def assert_same(one: Path, other: Path) -> None:
    for path in sorted(one.rglob("*")):
        twin = other / path.relative_to(one)
        assert twin.is_symlink() == path.is_symlink()
        if path.is_symlink():
            assert os.readlink(twin) == os.readlink(path)
            continue
        assert twin.stat().st_mode == path.stat().st_mode
        assert twin.is_dir() or twin.read_bytes() == path.read_bytes()
    assert len(list(one.rglob("*"))) == len(list(other.rglob("*")))


async def test_a_file_there_and_back(live: Live, tmp_path: Path) -> None:
    inside = live.gate.folder
    here = tmp_path / "here"
    here.write_bytes(BYTES)
    here.chmod(0o755)
    await copy(live, copying.copy_in, here, inside / "renamed")
    await copy(live, copying.copy_in, here, inside)
    for name in ("renamed", "here"):
        assert (inside / name).read_bytes() == BYTES
        assert (inside / name).stat().st_mode & 0o777 == 0o755
    (tmp_path / "back").mkdir()
    await copy(live, copying.copy_out, inside / "here", tmp_path / "back")
    assert (tmp_path / "back" / "here").read_bytes() == BYTES
    assert os.access(tmp_path / "back" / "here", os.X_OK)
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["here"]


async def test_folders_there_and_back(live: Live, tmp_path: Path) -> None:
    inside = live.gate.folder
    here = tree(tmp_path / "tree")
    await copy(live, copying.copy_in, here, inside / "new")
    assert_same(here, inside / "new")
    await copy(live, copying.copy_in, here, inside / "new")
    assert_same(here, inside / "new" / "tree")
    await copy(live, copying.copy_in, f"{here}/.", inside / "new" / "tree")
    assert_same(here, inside / "new" / "tree")
    out = tmp_path / "out"
    await copy(live, copying.copy_out, inside / "new" / "tree", out)
    assert_same(here, out)
    await copy(live, copying.copy_out, inside / "new" / "tree", out)
    assert_same(here, out / "tree")
    assert not list(Path("/tmp").glob(".thaw-*.tar.gz"))


async def test_standard_streams(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = live.gate.folder / "streamed"
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
        sending = asyncio.create_task(copy(live, copying.copy_in, "-", inside))
        with os.fdopen(writer, "wb") as pipe:
            await asyncio.to_thread(pipe.write, BYTES)
            await asyncio.to_thread(pipe.flush)
        await sending
    assert inside.read_bytes() == BYTES
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=shown, write=len, flush=list))
    await copy(live, copying.copy_out, inside, "-")
    assert shown.getvalue() == BYTES


async def test_what_cannot_be_copied_says_so(live: Live, tmp_path: Path) -> None:
    inside = live.gate.folder
    (inside / "file").touch()
    here = tree(tmp_path / "tree")
    for way, source, target, said in (
        (copying.copy_in, here / "nothing", inside, "does not exist on this machine"),
        (copying.copy_in, here, inside / "file", "is a file in the sandbox"),
        (copying.copy_in, "-", f"{inside}/", "add the name of the file that standard input is stored in"),
        (copying.copy_out, inside / "nothing", tmp_path, "does not exist in the sandbox"),
        (copying.copy_out, inside, "-", "only a file can be written to standard output"),
    ):
        with pytest.raises(Failure, match=said):
            await copy(live, way, source, target)
    os.mkfifo(here / "pipe")
    with pytest.raises(Failure, match="device or a pipe"):
        await copy(live, copying.copy_in, here, inside / "never")
    assert not (inside / "never").exists()


def packed(path: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../out")],
        [entry("link", tarfile.SYMTYPE, target="/etc")],
        [entry("link", tarfile.SYMTYPE, target="sub"), entry("link/file")],
        [entry("disk", tarfile.BLKTYPE)],
    ],
)
def test_a_hostile_sandbox_writes_nothing_elsewhere(tmp_path: Path, entries: list[tarfile.TarInfo]) -> None:
    archive = packed(tmp_path / "hostile.tar.gz", *entries)
    folder = tmp_path / "a" / "folder"
    try:
        place_archive(archive, folder)
    except UserError:
        pass
    else:
        assert entries[0].name == "../out"  # its name begins below the folder then
    assert {path.name for path in tmp_path.iterdir()} == {"hostile.tar.gz", "a"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["folder"]
    assert not (folder / "disk").exists()
    assert not (folder / "link" / "file").exists()


def test_links_that_an_earlier_copy_brought_lead_nowhere(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "sub").symlink_to(elsewhere)
    (folder / "file").symlink_to(elsewhere / "file")
    place_archive(packed(tmp_path / "a.tar.gz", entry("sub/file", mode=0o4755), entry("file")), folder)
    assert not list(elsewhere.iterdir())
    assert (folder / "sub" / "file").stat().st_mode & 0o7777 == 0o755
    assert (folder / "file").read_bytes() == b"x"
