"""Opening a node from settings, and closing it. Nothing of the kernel is touched."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from pathlib import Path

import pytest

from tests.support.node import FakeKernel
from thawbox.errors import RuntimeFault
from thawbox.node import firewall, opening, reaper, slots
from thawbox.node.containers import Node
from thawbox.node.slots import Network
from thawbox.settings import Settings, load

NETWORK = Network("tbab12", ipaddress.IPv4Network("10.200.0.0/20"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    runsc = tmp_path / "runsc"
    runsc.touch(mode=0o755)
    return load(
        state=tmp_path / "state", runsc=runsc, agent_image=tmp_path / "agent.erofs", guest_dns=["192.0.2.53"]
    )


@pytest.fixture(autouse=True)
def machine(
    commands: list[list[str]],
    cgroup_v2: Path,
    kernel: FakeKernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, object]:
    """What was done to the machine beside commands and cgroups."""
    done: dict[str, object] = {}
    (tmp_path / "ip_forward").write_text("0\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(slots, "IP_FORWARD", tmp_path / "ip_forward")
    monkeypatch.setattr(slots, "claim_network", lambda state, network: NETWORK)
    monkeypatch.setattr(
        slots, "release_network", lambda state, network: done.update(released=(state, network))
    )
    monkeypatch.setattr(reaper, "install", lambda loop: done.update(reaper=loop))
    return done


@pytest.fixture
async def node(settings: Settings) -> Node:
    return await opening.open_node(settings)


async def test_it_needs_root(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RuntimeFault, match="needs root"):
        await opening.open_node(settings)
    assert not settings.state.exists()


async def test_everything_is_in_place(
    node: Node,
    commands: list[list[str]],
    inputs: list[bytes | None],
    cgroup_v2: Path,
    tmp_path: Path,
    machine: dict[str, object],
) -> None:
    assert node.layout.bundles.is_dir()
    assert (node.table, node.cgroup_parent) == ("thawbox_tbab12", "thawbox-tbab12")
    assert (node.agent_image, node.runsc.binary) == (tmp_path / "agent.erofs", tmp_path / "runsc")
    assert commands == [["nft", "-f", "-"]]
    assert inputs == [firewall.ruleset(node.table, "tbab12", "10.200.0.0/20", ["192.0.2.53"]).encode()]
    assert (cgroup_v2 / node.cgroup_parent).is_dir()
    assert (tmp_path / "ip_forward").read_text() == "1\n"
    assert machine["reaper"] is asyncio.get_running_loop()


async def test_sandboxes_that_go_on_keep_what_they_need(
    node: Node, commands: list[list[str]], cgroup_v2: Path, machine: dict[str, object], kernel: FakeKernel
) -> None:
    await node.slots.warm()
    commands.clear()
    await opening.close_node(node, keep=True)
    assert commands == []
    assert (cgroup_v2 / node.cgroup_parent).is_dir()
    assert "released" not in machine
    assert kernel.existing == set()


async def test_nothing_is_left_otherwise(
    node: Node, commands: list[list[str]], cgroup_v2: Path, machine: dict[str, object]
) -> None:
    commands.clear()
    await opening.close_node(node, keep=False)
    assert commands == [
        ["umount", "-n", str(node.layout.containers / "null-netns")],
        ["nft", "delete", "table", "inet", "thawbox_tbab12"],
    ]
    assert not (cgroup_v2 / node.cgroup_parent).exists()
    assert machine["released"] == (node.layout.state, NETWORK)


async def test_build_steps_see_the_ca_file_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("certificates")
    bundle.chmod(0o600)
    node = await opening.open_node(settings.model_copy(update={"guest_ca_file": bundle}))
    folder = node.layout.runtime / "host"
    (seen,) = folder.iterdir()
    assert (seen.name, seen.read_text()) == ("ca-certificates.crt", "certificates")
    # Any user inside reads it.
    assert (seen.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o644, 0o755)

    await opening.open_node(settings.model_copy(update={"guest_ca_file": tmp_path / "missing"}))
    assert list(folder.iterdir()) == []
