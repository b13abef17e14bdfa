"""COPY means what it means to Docker: a table of cases, built from a Dockerfile by ``thaw build``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .server import Sandbox, Server

FILES = {
    # name in the context: (mode, content)
    "a.txt": (0o640, "a"),
    "b.txt": (0o644, "b"),
    "run.sh": (0o755, "#!/bin/sh"),
    "two words.txt": (0o644, "c"),
    "left-out.txt": (0o644, "ignored"),
    "dir/one": (0o644, "1"),
    "dir/sub/two": (0o600, "2"),
    "dir/left-out.txt": (0o644, "ignored"),
}
IGNORE = "**/left-out.txt\n.dockerignore\n"


@dataclass(frozen=True)
class Case:
    """Dockerfile lines, and what is in ``/c/<name>`` afterwards. ``@`` stands for that folder."""

    lines: str
    expected: dict[str, str]
    """path -> ``kind mode owner content``, or for links ``l target``"""


CASES = {
    "file": Case("COPY a.txt @/x", {"x": "f 640 0:0 a"}),
    "file-below-new-folders": Case(
        "COPY a.txt @/deep/er/x",
        {"deep": "d 755 0:0", "deep/er": "d 755 0:0", "deep/er/x": "f 640 0:0 a"},
    ),
    "file-and-slash": Case("COPY a.txt @/in/", {"in": "d 755 0:0", "in/a.txt": "f 640 0:0 a"}),
    "file-into-existing-folder": Case(
        "RUN mkdir -p @/in && chmod 700 @/in\nCOPY a.txt @/in",
        {"in": "d 700 0:0", "in/a.txt": "f 640 0:0 a"},
    ),
    "file-over-file": Case("RUN mkdir -p @; echo -n old > @/x\nCOPY b.txt @/x", {"x": "f 644 0:0 b"}),
    "several": Case("COPY a.txt run.sh @/", {"a.txt": "f 640 0:0 a", "run.sh": "f 755 0:0 #!/bin/sh"}),
    "several-with-a-folder": Case(
        "COPY a.txt dir @/",
        {"a.txt": "f 640 0:0 a", "one": "f 644 0:0 1", "sub": "d 750 0:0", "sub/two": "f 600 0:0 2"},
    ),
    "folder": Case(
        "COPY dir @/to",
        {"to": "d 755 0:0", "to/one": "f 644 0:0 1", "to/sub": "d 750 0:0", "to/sub/two": "f 600 0:0 2"},
    ),
    "folder-and-slashes": Case(
        "COPY dir/ @/", {"one": "f 644 0:0 1", "sub": "d 750 0:0", "sub/two": "f 600 0:0 2"}
    ),
    "folder-merges": Case(
        "RUN mkdir -p @/sub; echo -n kept > @/sub/here; echo -n old > @/one\nCOPY dir @",
        {"one": "f 644 0:0 1", "sub": "d 750 0:0", "sub/here": "f 644 0:0 kept", "sub/two": "f 600 0:0 2"},
    ),
    "glob": Case("COPY ?.txt @/", {"a.txt": "f 640 0:0 a", "b.txt": "f 644 0:0 b"}),
    "glob-of-one": Case("COPY a.t* @/x", {"x": "f 640 0:0 a"}),
    "glob-inside": Case("COPY dir/*/two @/", {"two": "f 600 0:0 2"}),
    "nested-file": Case("COPY dir/sub/two @/x", {"x": "f 600 0:0 2"}),
    "owner": Case(
        "COPY --chown=daemon:games dir @/to",
        {
            "to": "d 755 1:60",
            "to/one": "f 644 1:60 1",
            "to/sub": "d 750 1:60",
            "to/sub/two": "f 600 1:60 2",
        },
    ),
    "owner-by-number": Case("COPY --chown=1234:4321 a.txt @/x", {"x": "f 640 1234:4321 a"}),
    "permissions": Case("COPY --chmod=0711 a.txt @/x", {"x": "f 711 0:0 a"}),
    "owner-is-root-whoever-the-user-is": Case("USER daemon\nCOPY a.txt @/x\nUSER root", {"x": "f 640 0:0 a"}),
    "into-workdir": Case("WORKDIR @/work\nCOPY a.txt .", {"work": "d 755 0:0", "work/a.txt": "f 640 0:0 a"}),
    "below-workdir": Case(
        "WORKDIR @/work\nCOPY a.txt in/\nWORKDIR /",
        {"work": "d 755 0:0", "work/in": "d 755 0:0", "work/in/a.txt": "f 640 0:0 a"},
    ),
    "over-a-link-in-a-folder": Case(
        "RUN mkdir -p @; echo -n kept > @/target; ln -s target @/a.txt\nCOPY a.txt b.txt @/",
        {"a.txt": "f 640 0:0 a", "b.txt": "f 644 0:0 b", "target": "f 644 0:0 kept"},
    ),
    "through-a-link-to-a-folder": Case(
        "RUN mkdir -p @/real; ln -s real @/link\nCOPY a.txt @/link/",
        {"link": "l real", "real": "d 755 0:0", "real/a.txt": "f 640 0:0 a"},
    ),
    "link-in-a-folder-stays": Case("COPY links @/", {"to-a": "l ../a.txt", "in": "l to-a"}),
    "link-as-source-is-its-target": Case("COPY link.txt @/x", {"x": "f 640 0:0 a"}),
    "words": Case('COPY ["two words.txt", "@/x y"]', {"x y": "f 644 0:0 c"}),
    "with-variables": Case("ENV NAME=a\nCOPY ${NAME}.txt @/$NAME", {"a": "f 640 0:0 a"}),
    "empty-folder": Case("COPY empty @/", {}),
}  # fmt: skip

LIST = r"""
cd /c/NAME && find . -mindepth 1 | sort | while IFS= read -r path; do
  name=${path#./}
  if [ -L "$path" ]; then echo "$name|l $(readlink "$path")"
  elif [ -d "$path" ]; then echo "$name|d $(stat -c '%a %u:%g' "$path")"
  else echo "$name|f $(stat -c '%a %u:%g' "$path") $(cat "$path")"; fi
done
"""


def make_context(folder: Path) -> Path:
    for name, (mode, content) in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    (folder / "empty").mkdir()
    (folder / "dir").chmod(0o755)
    (folder / "dir" / "sub").chmod(0o750)
    (folder / "links").mkdir()
    (folder / "links" / "to-a").symlink_to("../a.txt")
    (folder / "links" / "in").symlink_to("to-a")
    (folder / "link.txt").symlink_to("a.txt")
    (folder / ".dockerignore").write_text(IGNORE)
    return folder


def thaw_build(
    server: Server, name: str, dockerfile: str, context: Path, *more: str
) -> tuple[dict[str, Any], str]:
    """What ``thaw build --json`` says on standard output, and its log."""
    file = context.parent / "Dockerfile"
    file.write_text(dockerfile)
    done = server.thaw("build", str(file), "--name", name, "--context", str(context), "--json", *more)
    log = done.stderr.decode()
    if not done.stdout:
        return {"status": "refused"}, log
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if result["status"] == "active" else 1)
    return result, log


def lines_of(name: str, case: Case) -> str:
    return f"WORKDIR /\n{case.lines}".replace("@", f"/c/{name}")


@pytest.fixture(scope="module")
def copied(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of one template with the results of all cases."""
    context = make_context(tmp_path_factory.mktemp("copy") / "context")
    dockerfile = "\n".join(["FROM debian:12", *(lines_of(name, case) for name, case in CASES.items())])
    result, log = thaw_build(server, "copy-cases", dockerfile, context)
    assert result["status"] == "active", log
    with server.create("copy-cases") as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", CASES)
def test_copy(copied: Sandbox, name: str) -> None:
    lines = copied.out(LIST.replace("NAME", name), workdir="/").splitlines()
    assert dict(line.split("|", 1) for line in lines) == CASES[name].expected


FAILING = {
    "folder-over-a-file": ("RUN mkdir /c && touch /c/sub\nCOPY dir /c/", "cannot be replaced by a folder"),
    "file-over-a-folder": ("RUN mkdir -p /c/a.txt\nCOPY a.txt b.txt /c/", "cannot be replaced by a file"),
    "unknown-owner": ("COPY --chown=nobody-here a.txt /c/", "nobody-here"),
}


@pytest.mark.parametrize("name", FAILING)
def test_copy_that_cannot_be_done_fails_the_step(server: Server, tmp_path: Path, name: str) -> None:
    lines, reason = FAILING[name]
    context = make_context(tmp_path / "context")
    result, _ = thaw_build(server, f"copy-{name}", f"FROM debian:12\n{lines}\n", context)
    assert result["status"] == "failed"
    assert reason in result["error_message"]


@pytest.mark.parametrize("source", ["missing", "*.none", "../outside", "left-out.txt"])
def test_source_that_is_not_there_is_told_before_anything_is_asked(
    server: Server, tmp_path: Path, source: str
) -> None:
    context = make_context(tmp_path / "context")
    result, said = thaw_build(server, "copy-nothing", f"FROM debian:12\nCOPY {source} /c/\n", context)
    assert result == {"status": "refused"}
    assert source in said
    assert server.api.get("/v1/templates/copy-nothing").status_code == 404


def test_only_changed_content_is_copied_again(server: Server, tmp_path: Path) -> None:
    context = make_context(tmp_path / "context")
    dockerfile = "FROM debian:12\nCOPY b.txt /c/\nCOPY dir /c/\nRUN cat /c/* > /all 2>/dev/null; true\n"

    def cached(*more: str) -> list[bool]:
        result, log = thaw_build(server, "copy-cache", dockerfile, context, *more)
        assert result["status"] == "active", log
        steps = [line for line in log.splitlines() if "/3] COPY " in line or "/3] RUN " in line]
        assert len(steps) == 3, log
        return [line.startswith("CACHED") for line in steps]

    assert cached() == [False, False, False]
    (context / "b.txt").touch()  # only a time changes
    assert cached("--update") == [True, True, True]
    (context / "dir" / "one").write_text("eins")
    assert cached("--update") == [True, False, False]
    (context / "b.txt").chmod(0o600)
    assert cached("--update") == [False, False, False]
    with server.create("copy-cache") as sandbox:
        assert sandbox.out("cat /c/one; stat -c %a /c/b.txt") == "eins600"
