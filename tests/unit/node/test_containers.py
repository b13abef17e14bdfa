"""A node's containers: each holds a slot, a cgroup, a bundle and a record of runsc, and gives all of them back."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import FakeKernel, FakeStart
from thawbox import guest
from thawbox.errors import NoCapacity, RuntimeFault
from thawbox.guest import Endpoint
from thawbox.node import cgroups, gvisor, reaper, spec
from thawbox.node.container import Container
from thawbox.node.containers import Node
from thawbox.node.slots import Network, Slots
from thawbox.state import Layout

LIMITS = cgroups.ResourceLimits(cpu=1, memory_mb=256)
ROOT = spec.Directory(path=Path("/state/layers/base/fs"))
AGENT = Path("/state/runtime/agent.erofs")


@pytest.fixture
def node(
    layout: Layout,
    kernel: FakeKernel,
    start: FakeStart,
    commands: list[list[str]],
    cgroup_v2: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Node:
    cgroups.prepare_parent("thawbox-tbab12")

    async def never(pid: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(reaper, "exited", never)
    return Node(
        runsc=gvisor.Runsc(binary=Path("/opt/runsc"), root=layout.containers, upper=layout.upper, digest="d"),
        layout=layout,
        slots=Slots(Network("tbab12", ipaddress.IPv4Network("10.200.0.0/28")), ahead=0),
        cgroup_parent="thawbox-tbab12",
        table="thawbox_tbab12",
        agent_image=AGENT,
    )


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What the agents answer, one after the other: an error or None; None when there is no more."""
    prepared: list[BaseException | None] = []

    async def wait_ready(
        endpoint: Endpoint, timeout: float, ask: Callable[[], Coroutine[Any, Any, object]] | None
    ) -> None:
        error = prepared.pop(0) if prepared else None
        if error is not None:
            raise error
        if ask is not None:
            await ask()

    monkeypatch.setattr(guest, "wait_ready", wait_ready)
    return prepared


async def create(node: Node, name: str = "sb-1", **more: Any) -> Container:
    return await node.create(name, **{"root": ROOT, "limits": LIMITS, "disk_gb": 5, **more})


def verbs(commands: list[list[str]]) -> list[str]:
    """Which commands of runsc and nft were called."""
    known = {"create", "start", "restore", "delete", "pause", "resume", "checkpoint", "tar", "add"}
    return [next((word for word in words if word in known), "?") for words in commands]


async def test_a_container_has_everything(node: Node, start: FakeStart, cgroup_v2: Path) -> None:
    made = await create(node)
    assert made.bundle == node.layout.bundles / "sb-1"
    config = json.loads((made.bundle / "config.json").read_text())
    assert config["root"]["path"] == str(ROOT.path)
    assert str(made.slot.netns) in json.dumps(config["linux"])
    assert str(AGENT) in json.dumps(config["mounts"])
    assert str(node.layout.runtime / "host") in json.dumps(config["mounts"])
    group = cgroup_v2 / "thawbox-tbab12" / "sb-1"
    assert (group / "pids.max").exists()
    assert start.env["THAWBOX_CGROUPS"] == str(group / "cgroup.procs")
    assert start.input.decode() == made.secret + "\n"
    assert len(bytes.fromhex(made.secret)) == 32
    assert set(made.timings) == {"slot", "prepare", "create"}
    await node.destroy(made)


async def test_no_two_share_anything(node: Node) -> None:
    one, other = await create(node, "sb-1"), await create(node, "sb-2")
    assert one.secret != other.secret
    assert one.slot != other.slot
    assert one.bundle != other.bundle
    assert one.cgroup != other.cgroup
    for container in (one, other):
        await node.destroy(container)


def assert_nothing_is_left(node: Node) -> None:
    assert list(node.layout.bundles.iterdir()) == []
    assert list(node.layout.upper.iterdir()) == []
    assert cgroups.names(node.cgroup_parent) == []


async def test_destroy_gives_all_back(node: Node, kernel: FakeKernel, commands: list[list[str]]) -> None:
    made = await create(node)
    (node.layout.upper / "filestore-sb-1").touch()
    (node.layout.upper / "filestore-sb-2").touch()
    await node.destroy(made)
    assert verbs(commands) == ["delete"]
    assert [path.name for path in node.layout.upper.iterdir()] == ["filestore-sb-2"]
    (node.layout.upper / "filestore-sb-2").unlink()
    assert_nothing_is_left(node)
    assert (await node.slots.acquire()) == made.slot
    assert kernel.calls == [("make", 0), ("refresh", 0)]


@pytest.mark.parametrize("stage", ["cgroup", "firewall", "runsc"])
async def test_a_failed_create_leaves_nothing(
    node: Node,
    start: FakeStart,
    outputs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    if stage == "cgroup":

        def refuses(*_: object) -> None:
            raise RuntimeFault("cgroup")

        monkeypatch.setattr(cgroups, "limit", refuses)
    elif stage == "firewall":
        outputs["nft"] = b"!"
    else:
        start.outcome = 1
    with pytest.raises(RuntimeFault):
        await create(node, internet=False)
    assert_nothing_is_left(node)
    for _ in range(4):  # all slots of the block are free
        await node.slots.acquire()
    with pytest.raises(NoCapacity):
        await node.slots.acquire()


async def test_without_internet(node: Node, commands: list[list[str]]) -> None:
    made = await create(node, internet=False)
    element = ["element", "inet", "thawbox_tbab12", "offline", f"{{ {made.slot.device} }}"]
    assert commands == [["nft", "add", *element]]
    commands.clear()
    await node.destroy(made)
    assert commands[-1] == ["nft", "delete", *element]


async def test_cut_off_later(node: Node, commands: list[list[str]]) -> None:
    made = await create(node)
    assert made.internet
    assert commands == []
    made = await node.cut_off(made)
    assert not made.internet
    assert verbs(commands) == ["add"]
    await node.destroy(made)
    assert commands[-1][:2] == ["nft", "delete"]


async def test_boot(node: Node, commands: list[list[str]], answers: list[BaseException | None]) -> None:
    greeted: list[Endpoint] = []

    async def greet(endpoint: Endpoint) -> None:
        greeted.append(endpoint)

    made = await create(node)
    await node.boot(made, greet)
    assert verbs(commands) == ["start"]
    assert greeted == [made.endpoint]
    assert set(made.timings) == {"slot", "prepare", "create", "start", "agent"}
    await node.destroy(made)


async def test_thaw(node: Node, commands: list[list[str]], answers: list[BaseException | None]) -> None:
    made = await create(node)
    await node.thaw(made, Path("/snap"))
    assert verbs(commands) == ["restore"]
    assert "--image-path=/snap" in commands[0]
    assert set(made.timings) == {"slot", "prepare", "create", "restore", "agent"}
    await node.destroy(made)


async def test_an_agent_that_does_not_answer(node: Node, answers: list[BaseException | None]) -> None:
    made = await create(node)
    (made.bundle / "console").write_text("exec: no such file\n")
    answers.append(TimeoutError("no answer"))
    with pytest.raises(RuntimeFault, match=r"agent in sb-1 does not answer: no answer; exec: no such file"):
        await node.boot(made)
    await node.destroy(made)


async def test_a_container_that_dies_while_it_boots(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await create(node)

    async def wait_ready(*_: object) -> None:
        made.died.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(guest, "wait_ready", wait_ready)
    with pytest.raises(RuntimeFault, match="the sandbox ended"):
        await node.boot(made)
    await node.destroy(made)


async def test_death_is_noticed(node: Node, start: FakeStart, monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[int] = []

    async def exited(pid: int) -> None:
        awaited.append(pid)

    monkeypatch.setattr(reaper, "exited", exited)
    made = await create(node)
    (made.bundle / "pid").write_text("4711")
    made.died.clear()
    node.watch(made)
    await asyncio.wait_for(made.died.wait(), 60)
    assert awaited == [4711]
    await node.destroy(made)


@pytest.mark.parametrize("memory", [None, Path("/snap")])
async def test_a_container_for_a_block(
    node: Node,
    commands: list[list[str]],
    answers: list[BaseException | None],
    memory: Path | None,
) -> None:
    async def inside() -> None:
        async with node.running("sb-1", root=ROOT, limits=LIMITS, disk_gb=5, memory=memory) as container:
            assert container.bundle.exists()
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await inside()
    assert verbs(commands) == ["start" if memory is None else "restore", "delete"]
    assert_nothing_is_left(node)


async def test_a_container_that_does_not_come_up_is_destroyed(
    node: Node, answers: list[BaseException | None]
) -> None:
    answers.append(TimeoutError())
    with pytest.raises(RuntimeFault):
        async with node.running("sb-1", root=ROOT, limits=LIMITS, disk_gb=5):
            raise AssertionError("the block must not run")
    assert_nothing_is_left(node)


async def test_adoption(node: Node, kernel: FakeKernel) -> None:
    found = node.container("sb-7", slot=0, secret="s", disk_gb=5, internet=True)
    assert found.endpoint == node.endpoint(0, "s")
    assert found.bundle == node.layout.bundles / "sb-7"
    node.adopt(found)
    assert (await node.slots.acquire()).index == 1
    await node.destroy(found)
    assert (await node.slots.acquire()).index == 0


async def test_freezing_and_the_rest_are_runscs(
    node: Node, commands: list[list[str]], tmp_path: Path
) -> None:
    made = await create(node)
    await node.freeze(made)
    await node.unfreeze(made)
    await node.checkpoint(made, tmp_path / "snap")
    await node.tar_upper(made, tmp_path / "u.tar")
    assert verbs(commands) == ["pause", "resume", "checkpoint", "tar"]
    assert "--leave-running" in commands[2]
    await node.destroy(made)


async def test_cancelling_a_create_leaves_nothing(node: Node, start: FakeStart) -> None:
    start.outcome = asyncio.CancelledError
    with pytest.raises(asyncio.CancelledError):
        await create(node)
    assert_nothing_is_left(node)
