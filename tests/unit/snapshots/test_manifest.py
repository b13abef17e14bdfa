"""Manifests on disk."""

from __future__ import annotations

import json

import pytest

from thawbox.errors import InternalFault
from thawbox.snapshots import manifest
from thawbox.snapshots.manifest import References, Snapshot, Version
from thawbox.state import Layout
from thawbox.templates.recipe import ReadyCheck, ReadyKind

OLD = """{
 "key": "k1",
 "image": "i1.erofs",
 "layers": ["base", "step"],
 "env": {"PATH": "/bin"},
 "workdir": "/app",
 "user": "web",
 "start_cmd": "serve",
 "ready": {"kind": "port", "target": "80", "timeout_ms": 30000, "interval_ms": 2000},
 "warm": ["numpy"],
 "kernel": true,
 "cpu": 2,
 "memory_mb": 512,
 "disk_gb": 10,
 "memory": {
  "folder": "memory-0123456789abcdef",
  "runsc_sha256": "aaaa",
  "agent_image": "agent-1.erofs"
 },
 "from_sandbox": false
}"""
"""As the first released servers wrote it."""
VERSION = Version(
    key="k1",
    image="i1.erofs",
    layers=("base", "step"),
    env={"PATH": "/bin"},
    workdir="/app",
    user="web",
    start_cmd="serve",
    ready=ReadyCheck(kind=ReadyKind.PORT, target="80", timeout_ms=30000, interval_ms=2000),
    warm=("numpy",),
    kernel=True,
    cpu=2,
    memory_mb=512,
    disk_gb=10,
    snapshot=Snapshot(folder="memory-0123456789abcdef", runsc_sha256="aaaa", agent_image="agent-1.erofs"),
)
UNFROZEN = Version(key="k2", image="i2.erofs", layers=(), cpu=1, memory_mb=256, disk_gb=1)


@pytest.fixture(autouse=True)
def images(layout: Layout) -> None:
    (layout.images / "i1.erofs").touch()
    (layout.images / "i2.erofs").touch()


def write(layout: Layout, key: str, text: str) -> None:
    (layout.snapshots / key).mkdir()
    (layout.snapshots / key / "manifest.json").write_text(text)


def test_manifests_of_earlier_servers_load(layout: Layout) -> None:
    write(layout, "k1", OLD)
    assert manifest.load(layout, "k1") == VERSION
    assert manifest.snapshot_path(layout, VERSION) == layout.snapshots / "k1" / "memory-0123456789abcdef"


def test_earlier_servers_load_what_is_written_now(layout: Layout) -> None:
    manifest.save(layout, VERSION)
    assert json.loads((layout.snapshots / "k1" / "manifest.json").read_text()) == json.loads(OLD)
    assert [path.name for path in (layout.snapshots / "k1").iterdir()] == ["manifest.json"]


def test_a_version_without_snapshot(layout: Layout) -> None:
    manifest.save(layout, UNFROZEN)
    assert manifest.load(layout, "k2") == UNFROZEN
    assert manifest.snapshot_path(layout, UNFROZEN) is None


def test_a_version_is_there_with_manifest_and_image_only(layout: Layout) -> None:
    assert manifest.load(layout, "k1") is None
    manifest.save(layout, VERSION)
    (layout.images / "i1.erofs").unlink()
    assert manifest.load(layout, "k1") is None
    (layout.images / "i1.erofs").touch()
    manifest.remove(layout, "k1")
    manifest.remove(layout, "k1")
    assert manifest.load(layout, "k1") is None


def test_a_damaged_manifest_is_named(layout: Layout) -> None:
    write(layout, "k1", OLD[:50])
    with pytest.raises(InternalFault, match="k1"):
        manifest.load(layout, "k1")


def test_a_snapshot_thaws_with_the_build_of_runsc_that_froze_it() -> None:
    assert VERSION.thaws_with("aaaa")
    assert not VERSION.thaws_with("bbbb")
    assert not UNFROZEN.thaws_with("aaaa")


def test_memory_of_an_unknown_runsc_restores_with_none() -> None:
    assert manifest.restores("aaaa", "aaaa")
    assert not manifest.restores(None, "aaaa")


def test_what_versions_need_is_known_even_from_manifests_of_later_servers(layout: Layout) -> None:
    write(layout, "k1", json.dumps({**json.loads(OLD), "added_later": 1}))
    manifest.save(layout, UNFROZEN)
    write(layout, "damaged", "{")
    (layout.snapshots / "empty").mkdir()
    found = sorted(manifest.references(layout), key=lambda one: one.image)
    assert found == [
        References(image="i1.erofs", layers=("base", "step"), agent_image="agent-1.erofs"),
        References(image="i2.erofs", layers=(), agent_image=None),
    ]
