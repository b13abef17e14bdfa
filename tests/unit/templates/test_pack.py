"""A local folder becomes the archive of a COPY step."""

import os
import tarfile
from pathlib import Path

import pytest

from thawbox.errors import UserError
from thawbox.settings import load
from thawbox.templates.archive import check_archive
from thawbox.templates.pack import pack_context, read_ignore


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "ctx"
    for name in (
        "app/main.py",
        "app/sub/deep.py",
        "app/sub/x.pyc",
        "app/.hidden",
        "a.txt",
        "b.txt",
        "[x].md",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "app/run").symlink_to("main.py")
    (root / "link").symlink_to("app")
    (root / "out").symlink_to(tmp_path)
    (root / "nowhere").symlink_to("missing")
    (tmp_path / "secret").write_text("s")
    return root


def names(context: Path, *sources: str, ignore: str = "") -> list[str]:
    packed = pack_context(context, sources, ignore=ignore)
    try:
        with tarfile.open(packed.path) as tar:
            return tar.getnames()
    finally:
        packed.path.unlink()


APP = ["app", "app/.hidden", "app/main.py", "app/run", "app/sub", "app/sub/deep.py", "app/sub/x.pyc"]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["a.txt"], ["a.txt"]),
        (["./a.txt", "/b.txt"], ["a.txt", "b.txt"]),
        (["app/"], APP),
        (["app/**"], APP),
        (["app", "app/main.py"], APP),
        (["*.txt"], ["a.txt", "b.txt"]),
        (["[ab].t?t"], ["a.txt", "b.txt"]),
        (["[^a].txt"], ["b.txt"]),
        (["[x].md"], ["[x].md"]),
        (["\\[x].md"], ["[x].md"]),
        (["**/*.py"], ["app/main.py", "app/sub/deep.py"]),
        (["app/*/deep.py"], ["app/sub/deep.py"]),
        (["app/sub/../main.py"], ["app/main.py"]),
        (["link"], ["link", *(name.replace("app", "link") for name in APP[1:])]),
        (["app/run"], ["app/run"]),
    ],
)
def test_sources(context: Path, sources: list[str], expected: list[str]) -> None:
    assert names(context, *sources) == expected


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        ("**/*.pyc", [name for name in APP if not name.endswith(".pyc")]),
        ("app/sub", [name for name in APP if "sub" not in name]),
        ("/app/sub/", [name for name in APP if "sub" not in name]),
        ("*.pyc", APP),
        ("sub", APP),
        ("# app\n\n  \nmain.py", APP),
        ("app\n!app/main.py", ["app", "app/main.py"]),
        ("app/*\n!app/sub\napp/sub/x*", ["app", "app/sub", "app/sub/deep.py"]),
    ],
)
def test_ignore(context: Path, ignore: str, expected: list[str]) -> None:
    assert names(context, "app", ignore=ignore) == expected


def test_whole_context_is_one_top_level_folder(context: Path) -> None:
    packed = pack_context(context, ["."], ignore="out\nnowhere")
    report = check_archive(packed.path, settings=load())
    packed.path.unlink()
    assert report.top_level == ((".", True),)
    assert report.digest == packed.digest


def test_digest_does_not_see_times_or_owners(context: Path) -> None:
    first = pack_context(context, ["app"])
    os.utime(context / "app/main.py", (1, 1))
    second = pack_context(context, ["app"])
    (context / "app/main.py").chmod(0o755)
    third = pack_context(context, ["app"])
    for packed in (first, second, third):
        packed.path.unlink()
    assert first.digest == second.digest != third.digest


@pytest.mark.parametrize(
    ("source", "ignore", "words"),
    [
        ("nope", "", "does not exist"),
        ("*.nope", "", "matches nothing"),
        ("..", "", "outside the context"),
        ("../secret", "", "outside the context"),
        ("app/../../secret", "", "outside the context"),
        ("", "", "outside the context"),
        ("out/secret", "", "leads out of the context"),
        ("out", "", "leads out of the context"),
        ("nowhere", "", "symlink to nothing"),
        ("[a", "", "without ']'"),
        ("[z-a]", "", "is not a valid pattern"),
        ("a.txt", "*.txt", "excluded by .dockerignore"),
        (".", "nowhere", "is absolute"),
        ("pipe", "", "device, pipe or socket"),
        ("bad", "", "not UTF-8"),
    ],
)
def test_refusals_leave_nothing_behind(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, ignore: str, words: str
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    if source == "pipe":
        os.mkfifo(context / "pipe")
    if source == "bad":
        (context / "bad").mkdir()
        Path(os.fsdecode(os.fsencode(context / "bad") + b"/\xff")).write_text("")
    with pytest.raises(UserError, match=words.replace("[", r"\[").replace("]", r"\]")):
        pack_context(context, [source], ignore=ignore)
    assert list(scratch.iterdir()) == []


def test_context_must_be_a_folder(context: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        pack_context(context / "none", ["."])
    with pytest.raises(UserError, match="not a folder"):
        pack_context(context / "a.txt", ["."])


def test_reading_dockerignore(context: Path) -> None:
    assert read_ignore(context) == ""
    (context / ".dockerignore").write_bytes(b"\xef\xbb\xbfa\n")
    assert read_ignore(context) == "a\n"
    (context / ".dockerignore").write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot be read"):
        read_ignore(context)
