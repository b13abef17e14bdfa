"""Where COPY puts things: a table of cases against ``place`` as the agent runs it."""

import io
import os
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thawbox import guest
from thawbox.guest import Endpoint, GuestError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")

MTIME = 1_600_000_000
Tree = dict[str, str | None]
"""Path -> content of a file, ``-> target`` of a link, None of a folder."""


def archive(members: list[tuple[str, str | None]], mode: int = 0o644, folder_mode: int = 0o755) -> bytes:
    """A tar of ``members``; a name that ends with / is a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name.rstrip("/") or "/")
            info.name = name.rstrip("/") if name != "/" else name
            info.mtime = MTIME
            info.uid = info.gid = 12345
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, folder_mode
                tar.addfile(info)
            elif content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content[3:]
                tar.addfile(info)
            else:
                info.mode, info.size = mode, len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))
    return stream.getvalue()


def make(root: Path, tree: Tree) -> None:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)


def look(root: Path) -> Tree:
    tree: Tree = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            tree[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            tree[name] = None
        else:
            tree[name] = path.read_text()
    return tree


@dataclass(frozen=True)
class Case:
    members: list[tuple[str, str | None]]
    dest: str
    after: Tree
    before: Tree = field(default_factory=dict)
    cwd: str = "."


APP: list[tuple[str, str | None]] = [
    ("app/", None),
    ("app/main.py", "m"),
    ("app/sub/", None),
    ("app/sub/x", "x"),
]

CASES = {
    "a file to a new name": Case([("f.txt", "1")], "g.txt", {"g.txt": "1"}),
    "a file to a new name in a new folder": Case(
        [("f", "1")], "a/b/g", {"a": None, "a/b": None, "a/b/g": "1"}
    ),
    "a file to a trailing slash": Case([("f.txt", "1")], "new/", {"new": None, "new/f.txt": "1"}),
    "a file into a folder that is there": Case([("f", "1")], "d", {"d": None, "d/f": "1"}, {"d": None}),
    "a file over a file": Case([("f", "new")], "g", {"g": "new"}, {"g": "old"}),
    "a file over one of its name in a folder": Case(
        [("f", "new")], "d/", {"d": None, "d/f": "new", "d/other": "o"}, {"d/f": "old", "d/other": "o"}
    ),
    "a nested file alone keeps only its name": Case([("src/deep/f", "1")], "d/", {"d": None, "d/f": "1"}),
    "a file into WORKDIR": Case([("f", "1")], ".", {"w": None, "w/f": "1"}, cwd="w"),
    "a file into WORKDIR with ./": Case([("f", "1")], "./", {"w": None, "w/f": "1"}, cwd="w"),
    "a file relative to WORKDIR": Case([("f", "1")], "d/g", {"w": None, "w/d": None, "w/d/g": "1"}, cwd="w"),
    "a file above WORKDIR": Case([("f", "1")], "../g", {"w": None, "g": "1"}, {"w": None}, cwd="w"),
    "a folder: its contents": Case(
        APP, "dest", {"dest": None, "dest/main.py": "m", "dest/sub": None, "dest/sub/x": "x"}
    ),
    "a folder with trailing slash": Case(
        APP, "dest/", {"dest": None, "dest/main.py": "m", "dest/sub": None, "dest/sub/x": "x"}
    ),
    "a folder into a folder that is there": Case(
        APP,
        "d",
        {"d": None, "d/main.py": "m", "d/old": "o", "d/sub": None, "d/sub/x": "x", "d/sub/y": "y"},
        {"d/old": "o", "d/sub/y": "y", "d/main.py": "old"},
    ),
    "a folder into WORKDIR": Case([("a/", None), ("a/f", "1")], ".", {"w": None, "w/f": "1"}, cwd="w"),
    "an empty folder": Case([("empty/", None)], "dest", {"dest": None}),
    "a folder with an empty one in it": Case(
        [("a/", None), ("a/empty/", None)], "dest", {"dest": None, "dest/empty": None}
    ),
    "the whole context": Case(
        [(".", None), ("./f", "1"), ("./a", None), ("./a/g", "2")],
        "d",
        {"d": None, "d/f": "1", "d/a": None, "d/a/g": "2"},
    ),
    "several files": Case([("f", "1"), ("g", "2")], "d", {"d": None, "d/f": "1", "d/g": "2"}),
    "several files, trailing slash": Case(
        [("f", "1"), ("g", "2")], "d/", {"d": None, "d/f": "1", "d/g": "2"}
    ),
    "several files into a folder that is there": Case(
        [("f", "1"), ("g", "2")], "d", {"d": None, "d/f": "1", "d/g": "2", "d/h": "3"}, {"d/h": "3"}
    ),
    "three files": Case(
        [("f", "1"), ("g", "2"), ("h", "3")], "d", {"d": None, "d/f": "1", "d/g": "2", "d/h": "3"}
    ),
    "a glob's matches in a folder": Case(
        [("src/a.py", "a"), ("src/b.py", "b")], "d/", {"d": None, "d/a.py": "a", "d/b.py": "b"}
    ),
    "a glob that matched a file and a folder": Case(
        [("src/a", "a"), ("src/sub/", None), ("src/sub/b", "b")], "d", {"d": None, "d/a": "a", "d/b": "b"}
    ),
    "a glob that matched a folder and a file": Case(
        [("src/sub/", None), ("src/sub/b", "b"), ("src/a", "a")], "d", {"d": None, "d/a": "a", "d/b": "b"}
    ),
    "two folders": Case(
        [("a/", None), ("a/f", "1"), ("b/", None), ("b/g", "2")], "d", {"d": None, "d/f": "1", "d/g": "2"}
    ),
    "duplicates of a recursive glob": Case(
        [*APP, *APP[1:]], "d", {"d": None, "d/main.py": "m", "d/sub": None, "d/sub/x": "x"}
    ),
    "the same file twice is one file": Case([("f", "1"), ("./f", "2")], "g", {"g": "2"}),
    "a folder without an entry of its own": Case(
        [("a/", None), ("a/b/c/f", "1")], "d", {"d": None, "d/b": None, "d/b/c": None, "d/b/c/f": "1"}
    ),
    "names that begin with ../": Case([("../../tmp/x/f", "1")], "d/", {"d": None, "d/f": "1"}),
    "a folder whose name begins with ../": Case(
        [("../../tmp/x/", None), ("../../tmp/x/f", "1")], "d", {"d": None, "d/f": "1"}
    ),
    "spaces, umlauts and newlines": Case(
        [("ä ö/", None), ("ä ö/f ü\n.txt", "1")], "my dest", {"my dest": None, "my dest/f ü\n.txt": "1"}
    ),
    "a long name": Case([("n" * 150, "1")], "d/", {"d": None, "d/" + "n" * 150: "1"}),
    "a link in a folder stays one": Case(
        [("a/", None), ("a/f", "1"), ("a/l", "-> f")], "d", {"d": None, "d/f": "1", "d/l": "-> f"}
    ),
    "a link alone stays one": Case([("l", "-> nowhere")], "m", {"m": "-> nowhere"}),
    "through a link to a folder": Case(
        [("f", "1")], "l/", {"l": "-> real", "real": None, "real/f": "1"}, {"real": None, "l": "-> real"}
    ),
    "a folder through a link to a folder": Case(
        [("a/", None), ("a/f", "1")],
        "l",
        {"l": "-> real", "real": None, "real/f": "1"},
        {"real": None, "l": "-> real"},
    ),
    "over a link to a file: written through": Case(
        [("f", "new")], "l", {"l": "-> real", "real": "new"}, {"real": "old", "l": "-> real"}
    ),
    "over a link to nothing: written through": Case(
        [("f", "1")], "l", {"l": "-> real", "real": "1"}, {"l": "-> real"}
    ),
    "a file over a link inside dest replaces it": Case(
        [("a/", None), ("a/l", "new")],
        "d",
        {"d": None, "d/l": "new", "real": "old"},
        {"real": "old", "d/l": "-> ../real"},
    ),
    "a file by name over a link inside dest replaces it": Case(
        [("l", "new")], "d/", {"d": None, "d/l": "new", "real": "old"}, {"real": "old", "d/l": "-> ../real"}
    ),
    "a link over a file replaces it": Case(
        [("a/", None), ("a/f", "-> x")], "d", {"d": None, "d/f": "-> x"}, {"d/f": "old"}
    ),
    "a link in the upload is not followed by what comes after": Case(
        [("a/", None), ("a/l", "-> ../real"), ("a/g", "1")],
        "d",
        {"d": None, "d/l": "-> ../real", "d/g": "1", "real": None},
        {"real": None},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_where_things_go(endpoint: Endpoint, tmp_path: Path, case: Case) -> None:
    make(tmp_path, case.before)
    cwd = os.path.normpath(tmp_path / case.cwd)
    data = archive(case.members)
    files, size = await guest.place(endpoint, data, dest=case.dest, cwd=cwd)
    assert look(tmp_path) == case.after
    contents = [content for _, content in case.members if content is not None]
    assert files == len(contents)
    assert size == sum(len(content.encode()) for content in contents if not content.startswith("-> "))


async def test_an_absolute_dest_ignores_the_working_folder(endpoint: Endpoint, tmp_path: Path) -> None:
    await guest.place(endpoint, archive([("f", "1")]), dest=f"{tmp_path}/d/", cwd="/nonexistent")
    assert look(tmp_path) == {"d": None, "d/f": "1"}


REFUSED = {
    "a folder over a file": Case([("a/", None)], "f", {}, {"f": "x"}),
    "a nested folder over a file": Case([("a/", None), ("a/f/", None)], "d", {}, {"d/f": "x"}),
    "a nested folder over a link": Case(
        [("a/", None), ("a/l/", None)], "d", {}, {"real": None, "d/l": "-> ../real"}
    ),
    "something below a link of the upload": Case(
        [("a/", None), ("a/l", "-> ../real"), ("a/l/f", "1")], "d", {}, {"real": None}
    ),
    "a file over a folder": Case([("f", "1")], "d/", {}, {"d/f": None}),
    "below a file": Case([("f", "1")], "file/d/", {}, {"file": "x"}),
    "several files to a file": Case([("f", "1"), ("g", "2")], "file", {}, {"file": "x"}),
    "out of the upload": Case([("a/../../f", "1")], "d/", {}),
    "an absolute name": Case([("/etc/thawbox-test", "1")], "d/", {}),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_refused_with_a_sentence(endpoint: Endpoint, tmp_path: Path, case: Case) -> None:
    make(tmp_path, case.before)
    with pytest.raises(GuestError) as caught:
        await guest.place(endpoint, archive(case.members), dest=case.dest, cwd=str(tmp_path))
    assert caught.value.code == "COPY_FAILED"
    assert len(caught.value.message) > 20
    left = look(tmp_path)
    assert {name: left[name] for name in case.before} == case.before
    assert not [name for name in left if ".thawbox" in name]
    assert not (tmp_path / "real/f").exists()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE])
async def test_devices_pipes_and_hard_links_are_refused(
    endpoint: Endpoint, tmp_path: Path, kind: bytes
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("thing")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(GuestError, match="'thing'") as caught:
        await guest.place(endpoint, stream.getvalue(), dest="d/", cwd=str(tmp_path))
    assert caught.value.code == "COPY_FAILED"
    assert look(tmp_path) == {}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_modes_and_times_are_the_uploads(endpoint: Endpoint, tmp_path: Path) -> None:
    data = archive(
        [("a/", None), ("a/f", "1"), ("a/s/", None), ("a/s/g", "2")], mode=0o751, folder_mode=0o2750
    )
    await guest.place(endpoint, data, dest="d", cwd=str(tmp_path))
    assert mode(tmp_path / "d/f") == mode(tmp_path / "d/s/g") == 0o751
    assert mode(tmp_path / "d/s") == 0o2750
    assert mode(tmp_path / "d") == 0o755, "what is made for dest is 0755"
    assert {(tmp_path / "d" / name).stat().st_mtime for name in ("f", "s", "s/g")} == {MTIME}


async def test_the_mode_of_dest_is_kept_and_of_folders_below_it_taken(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    make(tmp_path, {"d/s/old": "o"})
    (tmp_path / "d").chmod(0o1777)
    (tmp_path / "d/s").chmod(0o700)
    await guest.place(endpoint, archive([("a/", None), ("a/s/", None)]), dest="d", cwd=str(tmp_path))
    assert mode(tmp_path / "d") == 0o1777
    assert mode(tmp_path / "d/s") == 0o755
    await guest.place(endpoint, archive([("f", "1")]), dest="d/s/", cwd=str(tmp_path))
    assert mode(tmp_path / "d") == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root enters a folder of mode 0600")
async def test_missing_parents_are_0755_whatever_the_permissions(endpoint: Endpoint, tmp_path: Path) -> None:
    await guest.place(endpoint, archive([("f", "1")]), dest="a/b/", cwd=str(tmp_path), permissions="0600")
    assert mode(tmp_path / "a") == 0o755
    assert mode(tmp_path / "a/b/f") == 0o600


async def test_permissions_hold_for_files_and_folders(endpoint: Endpoint, tmp_path: Path) -> None:
    data = archive([*APP, ("app/l", "-> main.py")])
    await guest.place(endpoint, data, dest="d", cwd=str(tmp_path), permissions="0750")
    assert {mode(tmp_path / "d" / name) for name in ("", "main.py", "sub", "sub/x")} == {0o750}


@pytest.mark.parametrize("permissions", ["rwx", "8", "77777", "-1", "", "0o755"])
async def test_permissions_that_are_none(endpoint: Endpoint, tmp_path: Path, permissions: str) -> None:
    with pytest.raises(GuestError, match="octal") as caught:
        await guest.place(endpoint, archive(APP), dest="d", cwd=str(tmp_path), permissions=permissions)
    assert caught.value.code == "COPY_FAILED"


@as_root
@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        (None, (0, 0)),
        ("somebody", (4242, 4243)),
        ("somebody:wheel", (4242, 4250)),
        ("4242:4251", (4242, 4251)),
        ("5555", (5555, 0)),
        ("5555:6666", (5555, 6666)),
    ],
)
async def test_owner(endpoint: Endpoint, tmp_path: Path, owner: str | None, ids: tuple[int, int]) -> None:
    data = archive([*APP, ("app/l", "-> main.py")], mode=0o4755)
    await guest.place(endpoint, data, dest="p/d", cwd=str(tmp_path), owner=owner)
    for name in ("", "main.py", "sub", "sub/x", "l"):
        state = (tmp_path / "p/d" / name).lstat()
        assert (state.st_uid, state.st_gid) == ids
    assert (tmp_path / "p").stat().st_uid == 0
    assert mode(tmp_path / "p/d/main.py") == 0o4755


@as_root
async def test_owner_of_a_single_file_and_of_an_existing_dest(endpoint: Endpoint, tmp_path: Path) -> None:
    make(tmp_path, {"d": None})
    await guest.place(endpoint, archive([("f", "1")]), dest="d/", cwd=str(tmp_path), owner="somebody")
    await guest.place(endpoint, archive([("f", "1")]), dest="g", cwd=str(tmp_path), owner="somebody")
    assert (tmp_path / "d").stat().st_uid == 0
    assert (tmp_path / "d/f").stat().st_uid == (tmp_path / "g").stat().st_uid == 4242


async def test_unknown_owner_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    for owner in ("stranger", "somebody:strangers"):
        with pytest.raises(GuestError, match="stranger") as caught:
            await guest.place(endpoint, archive(APP), dest="d", cwd=str(tmp_path), owner=owner)
        assert caught.value.code == "UNKNOWN_USER"


@pytest.mark.parametrize("data", [b"", b"not a tar at all" * 100, archive([("big", "x" * 50_000)])[:20_000]])
async def test_a_damaged_archive(endpoint: Endpoint, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(GuestError, match=r"archive|middle") as caught:
        await guest.place(endpoint, data, dest="d", cwd=str(tmp_path))
    assert caught.value.code == "COPY_FAILED"
    assert look(tmp_path) == {}


async def test_much_is_streamed_and_an_early_refusal_ends_it(endpoint: Endpoint, tmp_path: Path) -> None:
    big = "x" * 20_000_000
    assert await guest.place(
        endpoint, archive([("a/", None), ("a/f", big)]), dest="d", cwd=str(tmp_path)
    ) == (
        1,
        20_000_000,
    )
    assert (tmp_path / "d/f").stat().st_size == 20_000_000
    make(tmp_path, {"g/f": None})
    with pytest.raises(GuestError, match="folder"):
        await guest.place(endpoint, archive([("f", big)]), dest="g/", cwd=str(tmp_path))


async def test_an_absolute_name_writes_nothing_outside(endpoint: Endpoint, tmp_path: Path) -> None:
    target = tmp_path / "outside"
    with pytest.raises(GuestError):
        await guest.place(endpoint, archive([(str(target), "1")]), dest="d/", cwd=str(tmp_path))
    assert not target.exists()
