"""From a registry to a sandbox: an image with nothing but a static busybox, behind a log-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import registry as made
from .helpers.recipes import run
from .registry import Registry, entry, layer, packed, symlink
from .server import Server

BUSYBOX = Path("/bin/busybox")
PROGRAMS = ("sh", "cat", "echo", "mkdir", "rm", "ls", "env", "test", "id")


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Registry]:
    with made.running(tmp_path / "registry", private=True) as running:
        yield running


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()


def test_an_image_without_libc_or_python_becomes_a_template(own_server: Server, private: Registry) -> None:
    bottom = layer(
        entry("bin/"),
        entry("bin/busybox", BUSYBOX.read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in PROGRAMS),
        entry("etc/"),
        entry("etc/lower", b"lower"),
    )
    top = layer(entry("etc/.wh.lower"), entry("etc/upper", b"upper"))
    digest = private.push(
        "team/tiny",
        "1",
        [packed(bottom), packed(top, "zstd")],
        config={"Env": ["FROM_IMAGE=yes"], "WorkingDir": "/etc"},
    )
    own_server.settings["THAWBOX_REGISTRY_INSECURE"] = json.dumps([private.host])
    own_server.start()
    body = {
        "name": "tiny",
        "from_image": f"{private.host}/team/tiny:1",
        "cpu": 1,
        "memory": 256,
        "diskGB": 1,
        "steps": [run("cat upper > /made; test -e lower || echo gone >> /made")],
    }
    refused = own_server.wait(own_server.submit(body))
    assert refused["status"] == "failed"
    login = {"type": "basic", "username": made.ACCOUNT[0], "password": made.ACCOUNT[1]}
    build = own_server.build({**body, "registry_credentials": login})
    log = own_server.log_of(build)
    assert digest[:19] in log
    with own_server.create("tiny") as sandbox:
        assert sandbox.out("cat /made") == "uppergone"
        assert sandbox.out("echo $FROM_IMAGE; pwd; id -u") == "yes\n/etc\n0"
    assert made.ACCOUNT[1] not in log + own_server.log.read_text()
    assert made.ACCOUNT[1].encode() not in (own_server.state / "thawbox.db").read_bytes()
    with own_server.client(own_server.new_key("strangers")) as stranger:  # cached, but not for everybody
        build = own_server.submit(body, client=stranger)
        assert own_server.wait(build, client=stranger)["status"] == "failed"
