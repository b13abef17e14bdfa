"""Files inside: read, written whole or not at all, listed, removed."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from thawbox import guest
from thawbox.agent import protocol
from thawbox.agent.files import is_root
from thawbox.guest import Endpoint, GuestError
from thawbox.guest.channel import connect

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")


async def content(endpoint: Endpoint, path: Path, offset: int = 0, length: int | None = None) -> bytes:
    async with guest.read_file(endpoint, str(path), offset=offset, length=length) as (_, chunks):
        return b"".join([chunk async for chunk in chunks])


async def code_of(awaitable: object) -> str:
    with pytest.raises(GuestError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.code


async def test_read_gives_state_and_content(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "with space ü"
    data = os.urandom(700_000)
    path.write_bytes(data)
    path.chmod(0o640)
    async with guest.read_file(endpoint, str(path)) as (info, chunks):
        assert (info.type, info.size, info.mode, info.uid) == ("file", 700_000, 0o640, os.getuid())
        assert info.mtime == pytest.approx(path.stat().st_mtime)
        assert b"".join([chunk async for chunk in chunks]) == data


@pytest.mark.parametrize(
    ("offset", "length", "wanted"), [(3, None, b"def"), (1, 2, b"bc"), (9, 5, b""), (0, 0, b"")]
)
async def test_a_part_of_a_file(
    endpoint: Endpoint, tmp_path: Path, offset: int, length: int | None, wanted: bytes
) -> None:
    (tmp_path / "f").write_bytes(b"abcdef")
    assert await content(endpoint, tmp_path / "f", offset, length) == wanted


async def test_files_that_say_they_are_empty_are_read_to_their_end(endpoint: Endpoint) -> None:
    assert b"Linux" in await content(endpoint, Path("/proc/version"))


async def test_what_cannot_be_read(endpoint: Endpoint, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert await code_of(content(endpoint, tmp_path / "none")) == "NOT_FOUND"
    assert await code_of(content(endpoint, tmp_path)) == "IS_DIRECTORY"
    assert await code_of(content(endpoint, tmp_path / "fifo")) == "NOT_REGULAR"
    assert await code_of(content(endpoint, Path("/dev/zero"))) == "NOT_REGULAR"
    assert await code_of(content(endpoint, Path("/etc/passwd/x"))) == "ENOTDIR"
    assert await code_of(content(endpoint, Path("a\0b"))) == "INVALID"


async def test_write_makes_folders_and_the_file(endpoint: Endpoint, tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 500_000
        yield b""
        yield b"y" * 500_000

    path = tmp_path / "new/er/file ü"
    assert await guest.write_file(endpoint, str(path), chunks()) == 1_000_000
    assert path.read_bytes() == b"x" * 500_000 + b"y" * 500_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert await guest.write_file(endpoint, str(path), b"") == 0
    assert path.read_bytes() == b""


@pytest.mark.parametrize("step", [1, 7, 4099, 70_000, 1 << 22])
async def test_written_bytes_are_exact_however_they_are_cut(
    endpoint: Endpoint, tmp_path: Path, step: int
) -> None:
    sizes = (0, 1, 4, 5, 6, 999) if step < 100 else (0, 3, 100_000, protocol.BLOCK, protocol.FRAME_MAX, 1)
    payloads = [os.urandom(size) for size in sizes]
    frames = b"".join(protocol.encode_frame(protocol.DATA, payload) for payload in payloads)
    path = tmp_path / "cut"
    request = protocol.encode_request("write", endpoint.secret, {"path": str(path)})
    sent = request + frames + protocol.encode_frame(protocol.END)
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(sent), step):
        writer.write(sent[at : at + step])
        await writer.drain()
        await asyncio.sleep(0)
    answer = protocol.Decoder(protocol.FROM_GUEST).feed(await reader.read())
    writer.close()
    assert [kind for kind, _ in answer] == [protocol.RESULT]
    assert path.read_bytes() == b"".join(payloads)


@pytest.mark.parametrize("before", [0, 10, 100_000])
async def test_only_data_may_stand_before_the_end(endpoint: Endpoint, tmp_path: Path, before: int) -> None:
    async with connect(endpoint, "write", {"path": str(tmp_path / "f")}) as channel:
        await channel.send(protocol.DATA, b"x" * before)
        await channel.send(protocol.STDIN, b"y" * before)
        with pytest.raises(GuestError) as caught:
            await channel.receive()
    assert caught.value.code == "INVALID"
    assert list(tmp_path.iterdir()) == []


async def test_a_large_file_is_read_exactly(endpoint: Endpoint, tmp_path: Path) -> None:
    data = os.urandom(3 * protocol.BLOCK + 17)
    (tmp_path / "large").write_bytes(data)
    assert await content(endpoint, tmp_path / "large") == data
    assert await content(endpoint, tmp_path / "large", 5, protocol.BLOCK + 1) == data[5 : protocol.BLOCK + 6]


async def test_an_overwritten_file_keeps_its_mode_unless_told(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o751)
    await guest.write_file(endpoint, str(path), b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o751
    await guest.write_file(endpoint, str(path), b"newer", mode=0o4700)
    assert stat.S_IMODE(path.stat().st_mode) == 0o4700
    assert path.read_text() == "newer"


@as_root
async def test_owner_of_what_is_written(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "folder/f"
    await guest.write_file(endpoint, str(path), b"x", user="somebody")
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243)
    assert path.parent.stat().st_uid == 4242
    await guest.write_file(endpoint, str(path), b"y")
    assert path.stat().st_uid == 4242, "an overwritten file keeps its owner"


async def test_a_link_is_written_through(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    await guest.write_file(endpoint, str(tmp_path / "link"), b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"


async def test_what_cannot_be_written(endpoint: Endpoint, tmp_path: Path) -> None:
    async def write(path: Path | str, *, overwrite: bool = True, mkdirs: bool = True) -> str:
        data = b"x" * 3_000_000
        return await code_of(guest.write_file(endpoint, str(path), data, overwrite=overwrite, mkdirs=mkdirs))

    (tmp_path / "f").write_text("old")
    os.mkfifo(tmp_path / "fifo")
    assert await write(tmp_path) == "IS_DIRECTORY"
    assert await write(f"{tmp_path}/new/") == "IS_DIRECTORY"
    assert await write(tmp_path / "fifo") == "NOT_REGULAR"
    assert await write("/dev/null") == "NOT_REGULAR"
    assert await write(tmp_path / "f", overwrite=False) == "ALREADY_EXISTS"
    assert await write(tmp_path / "no/f", mkdirs=False) == "NOT_FOUND"
    assert await write(tmp_path / "f/below") == "ENOTDIR"
    assert (tmp_path / "f").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f", "fifo"]


async def test_no_overwrite_writes_what_is_new(endpoint: Endpoint, tmp_path: Path) -> None:
    await guest.write_file(endpoint, str(tmp_path / "f"), b"x", overwrite=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


async def test_a_full_disk_leaves_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    full = await guest.run(endpoint, shell=f"mount -t tmpfs -o size=1m none {tmp_path}")
    if full.exit_code != 0:
        pytest.skip("mounting needs root")
    try:
        assert await code_of(guest.write_file(endpoint, str(tmp_path / "f"), b"x" * 30_000_000)) == "ENOSPC"
        assert list(tmp_path.iterdir()) == []
    finally:
        await guest.run(endpoint, argv=["umount", str(tmp_path)])


async def test_a_client_that_goes_away_leaves_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    begun = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        begun.set()
        await asyncio.Event().wait()
        yield b""

    task = asyncio.create_task(guest.write_file(endpoint, str(tmp_path / "f"), chunks()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(20):
        while [entry.name for entry in tmp_path.iterdir()] != ["f"]:
            await guest.ping(endpoint)
    assert (tmp_path / "f").read_text() == "old"


async def test_an_error_of_the_source_reaches_the_caller(endpoint: Endpoint, tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="broke"):
        await guest.write_file(endpoint, str(tmp_path / "f"), chunks())


async def test_stat_and_links(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("12345")
    (tmp_path / "link").symlink_to("f")
    link = await guest.stat(endpoint, str(tmp_path / "link"))
    assert (link.type, link.target) == ("symlink", "f")
    followed = await guest.stat(endpoint, str(tmp_path / "link"), follow=True)
    assert (followed.type, followed.size, followed.target) == ("file", 5, None)
    assert (await guest.stat(endpoint, "/dev/null")).type == "device"
    assert (await guest.stat(endpoint, str(tmp_path))).type == "directory"
    assert await code_of(guest.stat(endpoint, str(tmp_path / "none"))) == "NOT_FOUND"


async def test_listing_is_by_name_and_complete(endpoint: Endpoint, tmp_path: Path) -> None:
    for number in range(2500):
        (tmp_path / f"f{number:04}").touch()
    (tmp_path / "folder").mkdir()
    entries = await guest.list_dir(endpoint, str(tmp_path))
    assert [entry.name for entry in entries] == [f"f{number:04}" for number in range(2500)] + ["folder"]
    assert entries[-1].type == "directory"
    assert await guest.list_dir(endpoint, str(tmp_path / "folder")) == []


async def test_names_that_are_no_text_are_listed_and_usable(endpoint: Endpoint, tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff\xfe", "wb") as file:
        file.write(b"x")
    (entry,) = await guest.list_dir(endpoint, str(tmp_path))
    assert entry.name is not None
    assert await content(endpoint, tmp_path / entry.name) == b"x"


async def test_what_cannot_be_listed(endpoint: Endpoint, tmp_path: Path) -> None:
    assert await code_of(guest.list_dir(endpoint, str(tmp_path / "none"))) == "NOT_FOUND"
    assert await code_of(guest.list_dir(endpoint, "/etc/passwd")) == "ENOTDIR"


async def test_mkdir(endpoint: Endpoint, tmp_path: Path) -> None:
    await guest.mkdir(endpoint, str(tmp_path / "a/b/c"), mode=0o700, parents=True)
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755
    await guest.mkdir(endpoint, str(tmp_path / "a/b/c"), parents=True)
    assert await code_of(guest.mkdir(endpoint, str(tmp_path / "a"))) == "ALREADY_EXISTS"
    assert await code_of(guest.mkdir(endpoint, str(tmp_path / "x/y"))) == "NOT_FOUND"
    (tmp_path / "f").touch()
    assert await code_of(guest.mkdir(endpoint, str(tmp_path / "f"), parents=True)) == "ALREADY_EXISTS"


async def test_remove(endpoint: Endpoint, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/f").touch()
    (tree / "link").symlink_to(outside)
    assert await code_of(guest.remove(endpoint, str(tree))) == "ENOTEMPTY"
    await guest.remove(endpoint, str(tree), recursive=True)
    assert not tree.exists()
    assert (outside / "kept").exists()
    await guest.remove(endpoint, str(outside / "kept"))
    await guest.remove(endpoint, str(outside))
    assert await code_of(guest.remove(endpoint, str(tree))) == "NOT_FOUND"


async def test_removing_a_link_leaves_what_it_points_to(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    await guest.remove(endpoint, str(tmp_path / "link"), recursive=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("path", ["/", "//", "///", "/tmp/..", "//tmp/..", "/./", "/proc/self/root"])
def test_the_root_is_known_however_it_is_spelled(path: str) -> None:
    """Only the predicate: the agent of these tests runs on a real machine, so no removal is given such a path."""
    assert is_root(path)


@pytest.mark.parametrize("path", ["/tmp", "//tmp", "/no/such/thing"])
def test_other_folders_are_not_the_root(path: str) -> None:
    assert not is_root(path)


@pytest.mark.parametrize("op", ["read", "write", "stat", "list", "mkdir", "remove"])
async def test_a_path_that_is_none(endpoint: Endpoint, op: str) -> None:
    for path in (None, 5, "", "a\0b"):
        with pytest.raises(GuestError) as caught:
            async with connect(endpoint, op, {"path": path}) as channel:
                await channel.receive()
        assert caught.value.code == "INVALID"


@pytest.mark.skipif(os.getuid() != 0, reason="others cannot write there anyway")
async def test_these_tests_cannot_harm_the_machine(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, shell="touch /etc/thawbox-test /usr/thawbox-test /root/thawbox-test")
    assert done.stderr.count(b"Read-only file system") == 3
