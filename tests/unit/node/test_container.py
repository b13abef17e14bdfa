"""A container as a value, and work that ends when it dies."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.node import cgroups
from thawbox.node.container import AGENT_PORT, Container, while_alive
from thawbox.node.slots import Network

SLOT = Network("tbab12", ipaddress.IPv4Network("10.200.0.0/20")).slot(3)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(
        id="sb-1", slot=SLOT, cgroup=cgroups.Cgroup((tmp_path,)), bundle=tmp_path, secret="s", disk_gb=1
    )


async def value() -> str:
    await asyncio.sleep(0)
    return "value"


async def test_the_result_of_work(container: Container) -> None:
    assert await while_alive(container, value()) == "value"


async def test_an_error_of_work(container: Container) -> None:
    async def fails() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await while_alive(container, fails())


async def test_death_ends_the_work(container: Container) -> None:
    cancelled: list[bool] = []

    async def endless() -> None:
        container.died.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(RuntimeFault, match="the sandbox ended"):
        await while_alive(container, endless())
    assert cancelled == [True]


async def test_a_result_counts_although_it_died(container: Container) -> None:
    async def last_words() -> str:
        container.died.set()
        return "value"

    assert await while_alive(container, last_words()) == "value"


async def test_cancellation_reaches_the_work(container: Container) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(while_alive(container, endless()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


def test_out_of_memory_is_what_the_server_or_the_kernel_did(container: Container) -> None:
    assert not container.out_of_memory
    (container.cgroup.folders[0] / "memory.events").write_text("oom_kill 1\n")
    assert container.out_of_memory
    (container.cgroup.folders[0] / "memory.events").write_text("oom_kill 0\n")
    assert not container.out_of_memory
    container.oom_killed.set()
    assert container.out_of_memory


def test_where_the_agent_listens(container: Container) -> None:
    endpoint = container.endpoint
    assert (endpoint.host, endpoint.port, endpoint.secret) == ("10.200.0.14", AGENT_PORT, "s")
