"""What is removed at a start, and what is kept."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.node import cgroups, gvisor, slots
from thawbox.node.container import Container
from thawbox.node.leftovers import remove_leftovers
from thawbox.node.slots import Network
from thawbox.state import Layout

NETWORK = Network("tbab12", ipaddress.IPv4Network("10.200.0.0/20"))
PARENT = "thawbox-tbab12"
KEPT, GONE = "sb-kept", "sb-gone"


@pytest.fixture
def runsc(layout: Layout) -> gvisor.Runsc:
    return gvisor.Runsc(
        binary=Path("/opt/runsc"), root=layout.containers, upper=layout.upper, digest="d" * 64
    )


@pytest.fixture
def removed_slots(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    removed: list[int] = []
    monkeypatch.setattr(slots, "existing", lambda network: {1, 2, 5})
    monkeypatch.setattr(slots, "destroy", lambda slot: removed.append(slot.index))
    return removed


@pytest.fixture
def kept(layout: Layout, cgroup_v2: Path) -> Container:
    """A container that goes on, beside one that a crash left."""
    cgroups.prepare_parent(PARENT)
    for name in (KEPT, GONE):
        cgroups.create(PARENT, name, cgroups.ResourceLimits(cpu=1, memory_mb=256))
        (layout.bundles / name).mkdir()
        (layout.bundles / name / "config.json").touch()
        (layout.upper / f"filestore.{name}").touch()
        (layout.containers / f"{name}.state").touch()
    (layout.containers / "null-netns").mkdir()
    return Container(
        id=KEPT,
        slot=NETWORK.slot(2),
        cgroup=cgroups.of(PARENT, KEPT),
        bundle=layout.bundles / KEPT,
        secret="s",
        disk_gb=1,
    )


def below(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_everything_but_what_is_kept_is_removed(
    layout: Layout,
    runsc: gvisor.Runsc,
    kept: Container,
    removed_slots: list[int],
    commands: list[list[str]],
    outputs: dict[str, bytes],
) -> None:
    outputs["list"] = json.dumps([{"id": name, "status": "running"} for name in (KEPT, GONE)]).encode()
    removed = await remove_leftovers(runsc, layout, NETWORK, PARENT, keep=[kept])
    assert [words[-3:] for words in commands if "delete" in words] == [["delete", "--force", GONE]]
    assert cgroups.names(PARENT) == [KEPT]
    assert sorted(removed_slots) == [1, 5]
    assert below(layout.bundles) == [KEPT]
    assert below(layout.upper) == [f"filestore.{KEPT}"]
    # runsc's own files: it removes the records of a container that it deletes
    assert below(layout.containers) == [f"{GONE}.state", f"{KEPT}.state"]
    assert removed == {"containers": 1, "cgroups": 1, "slots": 2, "folders": 3}


async def test_temporary_files_never_stay(
    layout: Layout,
    runsc: gvisor.Runsc,
    cgroup_v2: Path,
    removed_slots: list[int],
    commands: list[list[str]],
    tmp_path: Path,
) -> None:
    """Those of image downloads are among them: ``images.scratch`` makes them below ``tmp``."""
    (layout.tmp / "images" / "tmpabc").mkdir(parents=True)
    (layout.tmp / "file").touch()
    (tmp_path / "outside").mkdir()
    (layout.tmp / "link").symlink_to(tmp_path / "outside")
    (layout.images / "a.erofs").touch()
    await remove_leftovers(runsc, layout, NETWORK, PARENT, keep=())
    assert below(layout.tmp) == []
    assert (tmp_path / "outside").is_dir()
    assert below(layout.images) == ["a.erofs"]


async def test_a_group_that_cannot_be_removed_does_not_stop_the_rest(
    layout: Layout,
    runsc: gvisor.Runsc,
    kept: Container,
    removed_slots: list[int],
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def remove(group: cgroups.Cgroup) -> None:
        raise RuntimeFault("still has processes")

    monkeypatch.setattr(cgroups, "remove", remove)
    await remove_leftovers(runsc, layout, NETWORK, PARENT, keep=())
    assert below(layout.bundles) == []


async def test_nothing_is_there(
    layout: Layout,
    runsc: gvisor.Runsc,
    cgroup_v2: Path,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "existing", lambda network: set())
    removed = await remove_leftovers(runsc, layout, NETWORK, PARENT, keep=())
    assert removed == {"containers": 0, "cgroups": 0, "slots": 0, "folders": 0}
