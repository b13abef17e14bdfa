"""The image of the agent: reproducible, complete, and its interpreter runs from anywhere."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from thawbox.agent_image import AGENT_ARGV, INTERPRETER_ARGV, MOUNT_POINT, AgentImage, build_agent_image
from thawbox.errors import RuntimeFault

pytestmark = pytest.mark.skipif(
    shutil.which("mkfs.erofs") is None or shutil.which("fsck.erofs") is None, reason="needs erofs-utils"
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> AgentImage:
    return build_agent_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def tree(image: AgentImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's content, where no interpreter was ever installed."""
    folder = tmp_path_factory.mktemp("tree") / "moved"
    subprocess.run(["fsck.erofs", f"--extract={folder}", str(image.path)], check=True, capture_output=True)
    return folder


def interpreter(tree: Path) -> list[str]:
    return [word.replace(MOUNT_POINT, str(tree)) for word in INTERPRETER_ARGV]


def test_it_is_named_by_what_goes_in(image: AgentImage) -> None:
    assert image.path.name.startswith("agent-")
    assert image.path.suffix == ".erofs"
    assert [path.name for path in image.path.parent.iterdir()] == [image.path.name]


def test_the_same_inputs_give_the_same_bytes(image: AgentImage, tmp_path: Path) -> None:
    again = build_agent_image(tmp_path)
    assert again.path.name == image.path.name
    assert again.sha256 == image.sha256


def test_it_is_not_built_twice(image: AgentImage) -> None:
    before = image.path.stat()
    assert build_agent_image(image.path.parent) == image
    assert image.path.stat().st_mtime_ns == before.st_mtime_ns


def test_every_module_that_child_scripts_use_can_be_imported(tree: Path) -> None:
    names = (
        "ssl, tarfile, urllib.request, json, zlib, bz2, lzma, ctypes, socket, hashlib, asyncio, subprocess"
    )
    script = (
        f"import sys, {names}; print(sys.prefix); print(ssl.__file__); print(open('/proc/self/maps').read())"
    )
    said = subprocess.run(
        [*interpreter(tree), "-c", script], check=True, capture_output=True, text=True, env={}
    ).stdout.splitlines()
    assert said[0] == str(tree)
    assert said[1].startswith(str(tree))
    mapped = {line.split()[-1] for line in said[2:] if "/" in line}
    assert not [
        path for path in mapped if not path.startswith((str(tree), "/usr/lib/locale")) and "gconv" not in path
    ]


def test_it_has_no_sources_and_not_what_nobody_needs(tree: Path) -> None:
    assert {path.parent.name for path in tree.rglob("*.py")} == {"python"}
    for name in ("test", "idlelib", "tkinter", "lib2to3", "ensurepip", "__pycache__"):
        assert not list(tree.rglob(name))


def test_the_agent_starts_from_it(tree: Path) -> None:
    argv = [word.replace(MOUNT_POINT, str(tree)) for word in AGENT_ARGV]
    options = ["--port", "0", "--bind", "127.0.0.1", "--print-port"]
    with subprocess.Popen(
        [*argv, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={}
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.kill()


def test_place_starts_from_it(tree: Path, tmp_path: Path) -> None:
    options = json.dumps({"dest": "d/", "cwd": str(tmp_path), "root": ""})
    said = subprocess.run(
        [*interpreter(tree), f"{tree}/agent/agent.pyc", "copy_program", options],
        input=b"",
        capture_output=True,
        check=True,
        env={},
    ).stdout
    assert json.loads(said)["code"] == "COPY_FAILED"


def test_an_interpreter_that_is_too_old_or_none_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nprintf '3.9\\n/a\\n/b\\n/c\\n'\n")
    old.chmod(0o755)
    with pytest.raises(RuntimeFault, match=r"3\.11"):
        build_agent_image(tmp_path / "out", old)
    with pytest.raises(RuntimeFault, match="not installed"):
        build_agent_image(tmp_path / "out", tmp_path / "nothing")
    assert not (tmp_path / "out").exists()
