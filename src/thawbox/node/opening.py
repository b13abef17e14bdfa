"""Opens and closes the node of a state folder."""

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
    """Make the state folder's folders, firewall table and cgroup, and return its node. No network slot is ready yet.

    Raises:
        RuntimeFault: the caller is not root, or runsc, nftables or a cgroup controller is missing; ``thaw doctor``
            says more.
        NoCapacity: every block of the guest network belongs to another state folder.
    """
    if os.geteuid() != 0:
        raise RuntimeFault("Thawbox needs root, for namespaces, cgroups and mounts: start it with sudo")
    layout = Layout(settings.state.resolve())
    layout.make()
    if await boot.discard_stale_records(layout):
        log.info("machine_was_restarted")
    runsc = installed.open_runsc(settings)
    agent = await asyncio.to_thread(installed.agent_image, settings)
    _copy_ca(settings, layout)
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
    """Remove the free network slots; unless ``keep``, also the firewall table, the cgroup and the network block.

    ``keep`` is for sandboxes that outlive the server.
    """
    await node.slots.close()
    if not keep:
        # runsc mounts it for its gofers.
        await processes.run(["umount", "-n", node.layout.containers / "null-netns"], check=False)
        await firewall.remove(node.table)
        cgroups.remove_parent(node.cgroup_parent)
        slots.release_network(node.layout.state, node.slots.network)


def _copy_ca(settings: Settings, layout: Layout) -> None:
    """Copy the configured CA bundle to the folder that is mounted into every sandbox; remove it if there is none."""
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
