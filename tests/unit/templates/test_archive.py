"""Uploaded archives: what is refused, what a digest sees, what reaches the sandbox."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thawbox.errors import InternalFault, InvalidTemplate, TooLarge, UserError
from thawbox.settings import load
from thawbox.templates import tarwalk
from thawbox.templates.archive import (
    ArchiveReport,
    check_archive,
    check_step_sources,
    content_digest,
    files_digest,
    open_plain_tar,
    single_file_tar,
)
from thawbox.templates.recipe import CopyStep

SETTINGS = load()

Entry = tuple[str, bytes, dict[str, Any]]


def file(name: str, data: bytes = b"x", **more: Any) -> Entry:
    return name, data, more


def folder(name: str, **more: Any) -> Entry:
    return name, b"", {"type": tarfile.DIRTYPE, "mode": 0o755, **more}


def symlink(name: str, target: str) -> Entry:
    return name, b"", {"type": tarfile.SYMTYPE, "linkname": target}


def hard_link(name: str, target: str) -> Entry:
    return name, b"", {"type": tarfile.LNKTYPE, "linkname": target}


def tar_bytes(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
        for name, data, more in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Callable[[bytes], Path]:
    def put(data: bytes) -> Path:
        path = tmp_path / "a.tar.gz"
        path.write_bytes(data)
        return path

    return put


@pytest.fixture
def pack(store: Callable[[bytes], Path]) -> Callable[..., Path]:
    def put(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> Path:
        return store(gzip.compress(tar_bytes(*entries, form=form), 1))

    return put


def check(path: Path) -> ArchiveReport:
    return check_archive(path, settings=SETTINGS)


def refusal(path: Path, kind: type[UserError] = UserError) -> str:
    with pytest.raises(kind) as caught:
        check(path)
    assert type(caught.value) is kind
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message
    return caught.value.message


def read_plain(path: Path) -> dict[str, tuple[Any, ...]]:
    chunks = list(open_plain_tar(path, check(path)))
    assert all(len(chunk) == 256 * 1024 for chunk in chunks[:-1])
    return unpack(b"".join(chunks))


def unpack(data: bytes) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
            content = tar.extractfile(info) if info.isreg() else None
            found[info.name] = (info.type, info.mode, content.read() if content else info.linkname)
    return found


# What a client sends.


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_report(pack: Callable[..., Path], form: int) -> None:
    report = check(
        pack(
            folder("./app/"),
            file("./app/main.py", b"12345"),
            file("f.txt"),
            hard_link("g", "./f.txt"),
            form=form,
        )
    )
    assert (report.entries, report.files, report.unpacked_bytes) == (4, 3, 7)
    assert report.top_level == (("app", True), ("f.txt", False), ("g", False))
    assert report.outside_context is False
    assert report.link_targets == {"f.txt"}


@pytest.mark.parametrize(
    ("entries", "top"),
    [
        ((folder("."), folder("./app"), file("./app/x")), ((".", True),)),
        ((file("app/x"), folder("app")), (("app", True),)),
        ((file("app/a/x"), file("app/b/x")), (("app/a/x", False), ("app/b/x", False))),
        ((folder("a"), folder("ab"), file("a/x")), (("a", True), ("ab", True))),
        ((file("x"), file("./x")), (("x", False),)),
    ],
)
def test_top_level(pack: Callable[..., Path], entries: tuple[Entry, ...], top: object) -> None:
    assert check(pack(*entries)).top_level == top


def test_absolute_source_is_told_apart(pack: Callable[..., Path]) -> None:
    report = check(
        pack(folder("../../tmp/x"), file("../../tmp/x/a"), hard_link("../../tmp/x/b", "../../tmp/x/a"))
    )
    assert report.outside_context is True
    assert report.top_level == (("tmp/x", True),)
    check_step_sources(report, CopyStep(sources=("/tmp/x",), dest="/app"))
    with pytest.raises(InvalidTemplate, match="leaves the build context"):
        check_step_sources(report, CopyStep(sources=("/tmp/x", "y"), dest="/app"))


def test_an_empty_archive_cannot_be_copied(pack: Callable[..., Path], store: Callable[[bytes], Path]) -> None:
    for path in (pack(), store(gzip.compress(b""))):
        report = check(path)
        assert (report.entries, report.top_level) == (0, ())
        with pytest.raises(InvalidTemplate, match="empty"):
            check_step_sources(report, CopyStep(sources=("a",), dest="/"))


def test_plain_tar(pack: Callable[..., Path]) -> None:
    big = bytes(range(256)) * 3000
    owner = {"uid": 1000, "gid": 1000, "uname": "dev", "gname": "dev"}
    found = read_plain(
        pack(
            folder("./app", **owner),
            file("./app//big", big, mode=0o4755, **owner),
            file("app/" + "n" * 200, b"long"),
            hard_link("app/again", "./app/big"),
            hard_link("app/third", "app/again"),
            symlink("app/link", "../app/big"),
            file("app/é", b""),
        )
    )
    assert found == {
        "app": (tarfile.DIRTYPE, 0o755, ""),
        "app/big": (tarfile.REGTYPE, 0o4755, big),
        "app/" + "n" * 200: (tarfile.REGTYPE, 0o644, b"long"),
        "app/again": (tarfile.REGTYPE, 0o644, big),
        "app/third": (tarfile.REGTYPE, 0o644, big),
        "app/link": (tarfile.SYMTYPE, 0o644, "../app/big"),
        "app/é": (tarfile.REGTYPE, 0o644, b""),
    }


def test_plain_tar_can_be_given_up(pack: Callable[..., Path]) -> None:
    path = pack(file("a", bytes(1024 * 1024)))
    pieces = open_plain_tar(path, check(path))
    assert len(next(pieces)) == 256 * 1024
    pieces.close()  # type: ignore[attr-defined]


def test_plain_tar_keeps_sane_times(pack: Callable[..., Path]) -> None:
    path = pack(
        file("a", mtime=1_700_000_000),
        file("b", pax_headers={"mtime": "nan"}),
        file("c", pax_headers={"mtime": "1e300"}),
        file("d", pax_headers={"mtime": "-5"}),
    )
    with tarfile.open(fileobj=io.BytesIO(b"".join(open_plain_tar(path, check(path))))) as tar:
        assert [info.mtime for info in tar] == [1_700_000_000, 0, 0, 0]


# The digest.

BASE = (folder("d"), file("d/a", b"1"), symlink("d/l", "a"))


@pytest.mark.parametrize(
    "entries",
    [
        (symlink("./d/l", "a"), file("./d/a", b"1"), folder("d/")),
        (folder("d", uid=7, mtime=9), file("d/a", b"1", gid=7, mtime=9, uname="x"), symlink("d/l", "a")),
        (folder("d"), file("d/a", b"old"), file("d/a", b"1"), symlink("d/l", "a")),
        (folder("../d"), file("../d/a", b"1"), symlink("../d/l", "a")),
    ],
)
def test_digest_sees_content_only(pack: Callable[..., Path], entries: tuple[Entry, ...]) -> None:
    expected = content_digest(pack(*BASE))
    assert content_digest(pack(*entries)) == expected
    assert check(pack(*entries)).digest == expected


@pytest.mark.parametrize(
    "entries",
    [
        (folder("d"), file("d/a", b"2"), symlink("d/l", "a")),
        (folder("d"), file("d/b", b"1"), symlink("d/l", "a")),
        (folder("d"), file("d/a", b"1", mode=0o755), symlink("d/l", "a")),
        (folder("d"), file("d/a", b"1"), symlink("d/l", "b")),
        (folder("d"), file("d/a", b"1"), file("d/l", b"1")),
        (folder("d"), file("d/a", b"1"), symlink("d/l", "a"), folder("e")),
    ],
)
def test_digest_sees_every_difference(pack: Callable[..., Path], entries: tuple[Entry, ...]) -> None:
    assert content_digest(pack(*entries)) != content_digest(pack(*BASE))


def test_hard_link_is_the_file_that_it_links(pack: Callable[..., Path]) -> None:
    linked = content_digest(pack(file("a", b"1"), hard_link("b", "a")))
    assert linked == content_digest(pack(file("a", b"1"), file("b", b"1")))


# What is refused.


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([file("/etc/passwd")], 'Entry "/etc/passwd" has an absolute or empty name'),
        ([folder("/")], "absolute or empty name"),
        ([file("a/../b")], "'..' in the middle"),
        ([file("a/..")], "'..' in the middle"),
        ([file("a"), file("../b")], "different numbers of '../'"),
        ([file("../a"), file("../../b")], "different numbers of '../'"),
        ([file("a"), folder("..")], "different numbers of '../'"),
        ([symlink("l", "/etc/passwd")], 'Entry "l" is a symlink to "/etc/passwd", which is absolute'),
        ([symlink("l", "../x")], "leaves the archive"),
        ([symlink("d/l", "../../x")], "leaves the archive"),
        ([symlink("d/l", "x/../../../y")], "'..' in the middle"),
        ([symlink("a/b/s", "../.."), symlink("l", "a/b/s/../x")], "'..' in the middle"),
        ([symlink("../l", "../x")], "leaves the archive"),
        ([symlink("l", "")], "is empty"),
        ([symlink("l", "\udcff")], "not UTF-8"),
        ([symlink(".", "a")], "not a folder"),
        ([symlink("l", "."), file("l/x")], 'lies below "l", which is a symlink'),
        ([file("l/x"), symlink("l", ".")], "is both a folder and a symlink"),
        ([file("a"), file("a/b")], 'lies below "a", which is a file'),
        ([symlink("a", "b"), file("a")], "is both a symlink and a file"),
        ([hard_link("l", "/etc/passwd")], "absolute or empty name"),
        ([hard_link("l", "../x")], "which is no earlier file"),
        ([hard_link("l", "later"), file("later")], "which is no earlier file"),
        ([folder("d"), hard_link("l", "d")], "which is no earlier file"),
        ([symlink("s", "x"), hard_link("l", "s")], "which is no earlier file"),
        ([file("a"), hard_link("a", "a")], "which is no earlier file"),
        ([("dev", b"", {"type": tarfile.CHRTYPE, "devmajor": 1})], 'Entry "dev" is a device'),
        ([("dev", b"", {"type": tarfile.BLKTYPE})], "is a device"),
        ([("p", b"", {"type": tarfile.FIFOTYPE})], "is a pipe"),
        ([("u", b"", {"type": b"Z"})], "is of an unknown type"),
        ([file("\udcff")], "not UTF-8"),
        ([file("x", pax_headers={"path": "a\0b"})], "NUL byte"),
        ([file("n" * 256)], "a part of more than 255 bytes"),
        ([file("/".join(["abcdefghi"] * 500))], "has a name of 4999 bytes"),
        ([file("/".join(["a"] * 200))], "lies 200 folders deep"),
        ([file("x", pax_headers={"size": "-5"})], "pack it again"),
        ([file("x", pax_headers={"size": "999999"})], 'ends inside "x"'),
        ([file("x", pax_headers={"comment": "c" * 2_000_000})], "header of more than 1048576 bytes"),
        ([file("x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})], "header"),
        ([file("x", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99"})], "sparse"),
    ],
)
def test_refused_entries(pack: Callable[..., Path], entries: list[Entry], words: str) -> None:
    assert words in refusal(pack(*entries))


def test_symlinks_that_stay_inside_are_fine(pack: Callable[..., Path]) -> None:
    assert check(pack(symlink("a/b/l", "../../x"), symlink("a/m", "./b//c"), symlink("n", "."))).entries == 3


GOOD = tar_bytes(folder("d"), file("d/a", b"abc" * 1000), file("b"))


def packed(data: bytes) -> bytes:
    """Compressed, and the same in every process: pytest names tests after it, and xdist compares the names."""
    return gzip.compress(data, mtime=0)


PACKED = packed(GOOD)


def _damage(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty (0 bytes)"),
        (b"hello", "not a gzip file"),
        (GOOD, "not a gzip file"),
        (PACKED[:5], "damaged"),
        (PACKED[: len(PACKED) // 2], "truncated or damaged"),
        (PACKED[:-4], "truncated or damaged"),
        (PACKED + b"junk", "other data behind it"),
        (packed(b"hello world" * 100), "not a tar"),
        (packed(b"short"), "not a tar"),
        (packed(GOOD[:700]), "damaged header"),
        (packed(GOOD[:1500]), 'ends inside "d/a"'),
        (packed(_damage(GOOD, 600)), "damaged header"),
        (packed(_damage(GOOD, 0)), "not a tar"),
    ],
)
def test_refused_files(store: Callable[[bytes], Path], data: bytes, words: str) -> None:
    message = refusal(store(data))
    assert words in message


def test_checksum_is_checked(store: Callable[[bytes], Path]) -> None:
    assert "checksum is wrong" in refusal(store(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]))


def test_unpacked_bound(pack: Callable[..., Path]) -> None:
    path = pack(file("a", bytes(3_000_000)))
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        check_archive(path, settings=load(upload_unpacked_max_bytes=1_000_000))


def test_zeros_behind_the_end_count(store: Callable[[bytes], Path]) -> None:
    path = store(gzip.compress(tar_bytes(file("a")) + bytes(3_000_000)))
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        check_archive(path, settings=load(upload_unpacked_max_bytes=1_000_000))


def test_hard_links_count_in_full(pack: Callable[..., Path]) -> None:
    path = pack(file("a", bytes(400_000)), *(hard_link(f"l{i}", "a") for i in range(5)))
    with pytest.raises(TooLarge, match="hard links"):
        check_archive(path, settings=load(upload_unpacked_max_bytes=1_000_000))


def test_bomb_ratio(store: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarwalk, "RATIO_FROM_BYTES", 1_000_000)
    path = store(gzip.compress(tar_bytes(file("a", bytes(5_000_000)))))
    with pytest.raises(TooLarge, match="like a decompression bomb"):
        check(path)


def test_entry_bound(pack: Callable[..., Path]) -> None:
    with pytest.raises(TooLarge, match="more than 3 entries"):
        for _ in tarwalk.members(pack(*(file(f"f{i}") for i in range(4))), max_entries=3):
            pass


def test_names_bound(pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarwalk, "MAX_NAMES_BYTES", 100)
    assert "names take more than 100 bytes" in refusal(
        pack(*(file("n" * 40 + str(i)) for i in range(4))), TooLarge
    )


def test_a_chain_of_headers_ends(store: Callable[[bytes], Path]) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 0
    refusal(store(gzip.compress(header.tobuf() * 100_000)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, len(GOOD)),
)
def test_damage_is_refused_or_harmless(
    store: Callable[[bytes], Path], flips: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(GOOD)
    for at, value in flips:
        data[at] = value
    path = store(gzip.compress(bytes(data[:cut] if cut else data), 1))
    try:
        report = check(path)
    except UserError:
        return
    for name in unpack(b"".join(open_plain_tar(path, report))) if report.entries else ():
        assert not name.startswith("/")
        assert ".." not in name.split("/")


# Files that were uploaded one by one.


def test_single_files(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"one")
    (tmp_path / "2").write_bytes(bytes(600_000))
    files = [("app/main.py", tmp_path / "1"), ("./data.bin", tmp_path / "2")]
    chunks = list(single_file_tar(files))
    assert [len(chunk) for chunk in chunks[:-1]] == [256 * 1024] * 2
    assert unpack(b"".join(chunks)) == {
        "app/main.py": (tarfile.REGTYPE, 0o644, b"one"),
        "data.bin": (tarfile.REGTYPE, 0o644, bytes(600_000)),
    }


def test_digest_of_single_files_is_that_of_their_archive(tmp_path: Path, pack: Callable[..., Path]) -> None:
    (tmp_path / "1").write_bytes(b"one")
    assert files_digest([("./a/b", tmp_path / "1")]) == content_digest(pack(file("a/b", b"one")))
    assert files_digest([("a/c", tmp_path / "1")]) != content_digest(pack(file("a/b", b"one")))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../b", "", ".", "a\0", "\ud800"])
def test_single_files_stay_inside(tmp_path: Path, name: str) -> None:
    (tmp_path / "1").write_bytes(b"one")
    with pytest.raises(UserError):
        single_file_tar([(name, tmp_path / "1")])
    with pytest.raises(UserError):
        files_digest([(name, tmp_path / "1")])


def test_a_file_that_shrinks_is_our_fault(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_bytes(bytes(2_000_000))
    pieces = single_file_tar([("a", path)])
    next(pieces)
    path.write_bytes(b"")
    with pytest.raises(InternalFault, match="became shorter"):
        list(pieces)
