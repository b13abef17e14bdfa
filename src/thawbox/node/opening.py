"""Putting a node together from settings."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from thawbox import log as logs
from thawbox import processes
from thawbox.errors import RuntimeFault
from thawbox.settings import Settings
from thawbox.state import Layout
from thawbox.util import atomic

from . import boot, cgroups, firewall, installed, reaper, slots
from .containers import Node

log = logs.get(__name__)


async def open_node(settings: Settings) -> Node:
    """The node of this state folder: its folders made, its firewall in place, some slots still to be warmed.

    Raises:
        RuntimeFault, NoCapacity: something that is needed is missing; ``thaw doctor`` tells more.
    """
    if os.geteuid() != 0:
        raise RuntimeFault("Thawbox needs root, for namespaces, cgroups and mounts: start it with sudo")
    layout = Layout(settings.state.resolve())
    layout.make()
    if await boot.forget_earlier(layout):
        log.info("machine_was_restarted")
    runsc = installed.open_runsc(settings)
    agent = await asyncio.to_thread(installed.agent_image, settings)
    _offer_ca(settings, layout)
    network = await asyncio.to_thread(slots.claim_network, layout.state, settings.guest_network)
    slots.enable_forwarding()
    dns = firewall.name_servers(settings.guest_dns)
    if not dns:
        log.warning("no_name_server", remedy="set THAWBOX_GUEST_DNS, or guests resolve no names")
    table = f"thawbox_{network.prefix}"
    await firewall.install(table, network.prefix, str(network.block), dns, settings.guest_allow)
    parent = f"thawbox-{network.prefix}"
    cgroups.prepare_parent(parent)
    reaper.install(asyncio.get_running_loop())
    return Node(
        runsc=runsc,
        layout=layout,
        slots=slots.Slots(network),
        cgroup_parent=parent,
        table=table,
        agent_image=agent,
    )


async def close_node(node: Node, *, keep: bool) -> None:
    """Give back what no sandbox uses; with ``keep`` false also what all share (firewall, cgroup, share of network)."""
    await node.slots.close()
    if not keep:
        await processes.run(
            ["umount", "-n", node.layout.containers / "null-netns"], check=False
        )  # the gofers'
        await firewall.remove(node.table)
        cgroups.remove_parent(node.cgroup_parent)
        slots.release_network(node.layout.state, node.slots.network)


def _offer_ca(settings: Settings, layout: Layout) -> None:
    """Put the host's CA bundle where build steps see it, and nothing else of the host."""
    folder = layout.runtime / "host"
    folder.mkdir(exist_ok=True, mode=0o755)
    layout.runtime.chmod(0o755)  # inside the private state folder
    target = folder / "ca-certificates.crt"
    source: Path | None = settings.guest_ca_file
    if source is None or not source.exists():
        target.unlink(missing_ok=True)
        return
    with atomic.replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)
        unfinished.chmod(0o644)
