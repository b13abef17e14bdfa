from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.gateway import Live, frame, frames, say


@asynccontextmanager
async def watching(live: Live, path: object | None = None) -> AsyncIterator[ClientConnection]:
    path = str(path or live.gate.folder)
    async with live.connect("/files/watch") as socket:
        await say(socket, action="watch", path=path, ack=True)
        first = await frame(socket)
        assert (first["type"], first["path"], first["method"]) == ("watching", path, "inotify")
        yield socket


async def until(socket: ClientConnection, path: Path | str, event: str) -> list[dict[str, Any]]:
    """Every change up to this one."""
    seen: list[dict[str, Any]] = []
    while not seen or (seen[-1]["path"], seen[-1]["event"]) != (str(path), event):
        seen.append(await frame(socket))
        assert seen[-1]["type"] == "change", seen
    return seen


async def test_every_kind_of_change_is_told(live: Live) -> None:
    folder = live.gate.folder
    (folder / "old").write_text("x")
    async with watching(live) as socket:
        (folder / "new").touch()
        assert (await until(socket, folder / "new", "created"))[-1]["timestamp"].endswith("Z")
        (folder / "old").write_text("y")
        await until(socket, folder / "old", "modified")
        (folder / "old").rename(folder / "name")
        assert (await until(socket, folder / "name", "renamed"))[-1]["old_path"] == str(folder / "old")
        (folder / "name").unlink()
        await until(socket, folder / "name", "deleted")


async def test_folders_that_come_later_are_watched_too(live: Live) -> None:
    folder = live.gate.folder
    (folder / "a" / "b").mkdir(parents=True)
    async with watching(live) as socket:
        (folder / "a" / "b" / "f").touch()
        await until(socket, folder / "a" / "b" / "f", "created")
        (folder / "c" / "d").mkdir(parents=True)
        (folder / "c" / "d" / "f").touch()
        await until(socket, folder / "c" / "d" / "f", "created")
        (folder / "c").rename(folder / "e")
        await until(socket, folder / "e", "renamed")
        (folder / "e" / "d" / "f").write_text("x")
        await until(socket, folder / "e" / "d" / "f", "modified")


async def test_files_that_are_written_through_the_api_have_one_name(live: Live) -> None:
    path = live.gate.folder / "f"
    async with watching(live) as socket:
        for content, event in (("one", "created"), ("two", "modified")):
            await live.gate.client.post("/files/write", json={"path": str(path), "content": content})
            seen = await until(socket, path, event)
            assert {change["path"] for change in seen} == {str(path)}


async def test_many_changes_of_one_file_are_few(live: Live) -> None:
    path = live.gate.folder / "f"
    async with watching(live) as socket:
        with path.open("w") as file:
            for _ in range(5000):
                file.write("x")
                file.flush()
        path.unlink()
        assert len(await until(socket, path, "deleted")) < 500


async def test_names_that_are_no_text(live: Live) -> None:
    path = os.fsencode(live.gate.folder) + b"/\xff\n"
    async with watching(live) as socket:
        os.close(os.open(path, os.O_CREAT))
        await until(socket, os.fsdecode(path), "created")


async def test_single_file(live: Live) -> None:
    path = live.gate.folder / "f"
    path.touch()
    async with watching(live, path) as socket:
        path.write_text("x")
        await until(socket, path, "modified")
        path.unlink()
        assert (await frames(socket))[-1]["event"] == "deleted"
    assert socket.close_code == 1000


async def test_folder_that_goes_ends_the_watch(live: Live) -> None:
    folder = live.gate.folder / "d"
    folder.mkdir()
    async with watching(live, folder) as socket:
        folder.rmdir()
        assert [change["event"] for change in await frames(socket)] == ["deleted"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"action": "watch", "path": "/no/such"}, "FILE_NOT_FOUND"),
        ({"action": "watch", "path": ""}, "INVALID_PATH"),
        ({"action": "watch", "path": "a\x00"}, "INVALID_PATH"),
        ({"action": "watch"}, "INVALID_REQUEST"),
        ({"action": "dance", "path": "/"}, "INVALID_REQUEST"),
    ],
)
async def test_what_cannot_be_watched(live: Live, fields: dict[str, Any], code: str) -> None:
    async with live.connect("/files/watch") as socket:
        await say(socket, **fields)
        (error,) = await frames(socket)
    assert (error["type"], error["code"]) == ("error", code)


async def test_watcher_goes_with_its_client(live: Live) -> None:
    async with watching(live):
        assert watchers(live.gate.folder)
    deadline = time.monotonic() + 10
    while watchers(live.gate.folder):
        assert time.monotonic() < deadline


def watchers(folder: Path) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(folder) in words and any(b"watcher" in word for word in words):
                found.append(name)
    return found
