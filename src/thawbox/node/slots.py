"""Network slots: network namespaces with a link, an address and a route, made in advance and used again.

Slot ``n`` of a node has a namespace and a device of the host, both named ``<prefix>-<n>``, and the n-th /30 of the
node's block: its first address is the host's, its second the guest's. Names begin with the node's prefix, so that
what a crash leaves is found by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import ipaddress
import itertools
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from thawbox import log as logs
from thawbox.errors import NoCapacity

from . import netns

log = logs.get(__name__)

BLOCK_PREFIX = 20
"""Each node takes a /20 of the guest network: 1,024 slots."""
REGISTER = Path("/run/thawbox")
"""One file per block that is taken, with the path of the state folder that owns it."""


IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True, slots=True)
class Slot:
    """A network namespace for one sandbox, and its link to the host."""

    index: int
    device: str
    """name of the host's end of the link"""
    netns: Path
    host_address: str
    guest_address: str


@dataclass(frozen=True, slots=True)
class Network:
    """A node's block of the guest network, and the prefix of its names."""

    prefix: str
    """of device and namespace names: ``tb`` and four hex digits"""
    block: ipaddress.IPv4Network

    def slot(self, index: int) -> Slot:
        """The slot with this number, whether it exists or not."""
        base = int(self.block.network_address) + 4 * index
        name = f"{self.prefix}-{index}"
        return Slot(
            index=index,
            device=name,
            netns=netns.FOLDER / name,
            host_address=str(ipaddress.IPv4Address(base + 1)),
            guest_address=str(ipaddress.IPv4Address(base + 2)),
        )

    @property
    def capacity(self) -> int:
        """Number of slots in the block."""
        return int(self.block.num_addresses // 4)


def claim_network(state: Path, guest_network: str) -> Network:
    """The block of ``guest_network`` for this state folder: stable across restarts, and exclusive.

    A block is free again when its owner's state folder is gone and no address of this machine lies in it.

    Raises:
        NoCapacity: every block belongs to another state folder.
    """
    prefix = "tb" + hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:4]
    REGISTER.mkdir(exist_ok=True, mode=0o700)
    with open(REGISTER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = addresses_of_others(prefix)
        free = None
        for block in ipaddress.IPv4Network(guest_network).subnets(new_prefix=BLOCK_PREFIX):
            entry = REGISTER / f"block-{block.network_address}"
            owner = Path(entry.read_text()) if entry.exists() else None
            if owner == state.resolve():
                return Network(prefix, block)
            if owner is not None and owner.exists():
                continue
            # The owner's folder may be gone while its sandboxes still run.
            if free is None and not any(address in block for address in taken):
                free = block
        if free is not None:
            (REGISTER / f"block-{free.network_address}").write_text(str(state.resolve()))
            return Network(prefix, free)
    raise NoCapacity(
        f"every /{BLOCK_PREFIX} of the guest network {guest_network} is taken: set THAWBOX_GUEST_NETWORK"
    )


def addresses_of_others(prefix: str) -> list[ipaddress.IPv4Address]:
    """This machine's addresses, except those of slots with this prefix."""
    found = []
    with IPRoute() as host:
        for entry in host.get_addr(family=socket.AF_INET):
            if not str(entry.get("label")).startswith(prefix + "-"):
                found.append(ipaddress.IPv4Address(entry.get("address")))
    return found


def release_network(state: Path, network: Network) -> None:
    """Give the block back. If it belongs to another state folder by now, do nothing."""
    entry = REGISTER / f"block-{network.block.network_address}"
    with contextlib.suppress(FileNotFoundError):
        if Path(entry.read_text()) == state.resolve():
            entry.unlink()


def existing(network: Network) -> set[int]:
    """Numbers of the slots that exist on this machine, whole or in part."""
    found = {name for name in netns.names() if name.startswith(network.prefix + "-")}
    with IPRoute() as host:
        for link in host.get_links():
            name = link.get("ifname")
            if name and name.startswith(network.prefix + "-"):
                found.add(name)
    return {int(name.rpartition("-")[2]) for name in found if name.rpartition("-")[2].isdigit()}


def make(slot: Slot) -> None:
    """Create the slot's namespace and link (about 12 ms). What exists of it is removed first.

    Raises:
        OSError, NetlinkError: the kernel does not allow it; a part of the slot may exist then.
    """
    destroy(slot)
    netns.create(slot.netns)
    with IPRoute() as host:
        peer = {"ifname": "eth0", "net_ns_fd": str(slot.netns)}
        host.link("add", ifname=slot.device, kind="veth", peer=peer)
        index = host.link_lookup(ifname=slot.device)[0]
        host.addr("add", index=index, address=slot.host_address, prefixlen=30)
        host.link("set", index=index, state="up")
    netns.inside(slot.netns, _raise_links)
    refresh(slot)


def refresh(slot: Slot) -> None:
    """Set the guest's address and route again: runsc removes them from the device when it starts to use it."""

    def put_back(guest: IPRoute) -> None:
        index = guest.link_lookup(ifname="eth0")[0]
        guest.flush_addr(index=index)
        guest.addr("add", index=index, address=slot.guest_address, prefixlen=30)
        guest.route("replace", dst="default", gateway=slot.host_address)

    netns.inside(slot.netns, put_back)


def _raise_links(guest: IPRoute) -> None:
    guest.link("set", index=1, state="up")
    guest.link("set", index=guest.link_lookup(ifname="eth0")[0], state="up")


def destroy(slot: Slot) -> None:
    """Remove the link and the namespace, as far as they exist."""
    with IPRoute() as host:
        for index in host.link_lookup(ifname=slot.device):
            with contextlib.suppress(NetlinkError):
                host.link("del", index=index)
    netns.remove(slot.netns)


class Slots:
    """The slots of this node. ``acquire`` takes a free one or makes one, ``release`` makes it free again.

    Use it from one event loop only; it calls the kernel in threads.
    """

    def __init__(self, network: Network, *, ahead: int = 2) -> None:
        self.network = network
        self._ahead = ahead
        self._free: deque[Slot] = deque()
        self._used: set[int] = set()
        self._making: set[int] = set()
        self._refill: asyncio.Task[None] | None = None

    async def acquire(self) -> Slot:
        """Take a slot; ``release`` it later.

        Raises:
            NoCapacity: all are in use.
            OSError, NetlinkError: it cannot be made; nothing of it is left.
        """
        if self._free:
            slot = self._free.popleft()
            self._used.add(slot.index)
        else:
            slot = await self._make(used=True)
        self._keep_ahead()
        return slot

    async def release(self, slot: Slot) -> None:
        """Make the slot of a destroyed container free again, or remove it if it cannot be refreshed."""
        assert slot.index in self._used, f"slot {slot.index} was released twice"
        try:
            await asyncio.to_thread(refresh, slot)
        except (NetlinkError, OSError, IndexError) as error:
            log.warning("slot_unusable", slot=slot.device, error=repr(error))
            await asyncio.to_thread(destroy, slot)
            self._used.discard(slot.index)
            return
        self._used.discard(slot.index)
        self._free.append(slot)

    def adopt(self, index: int) -> Slot:
        """Mark the slot of a sandbox that has outlived its server as used."""
        self._used.add(index)
        return self.network.slot(index)

    async def warm(self) -> None:
        """Make slots until the configured number (``ahead``) is free."""
        while len(self._free) < self._ahead:
            self._free.append(await self._make(used=False))

    async def close(self) -> None:
        """Remove the free slots."""
        if self._refill is not None:
            self._refill.cancel()
            await asyncio.gather(self._refill, return_exceptions=True)
        while self._free:
            await asyncio.to_thread(destroy, self._free.popleft())

    def _keep_ahead(self) -> None:
        if len(self._free) < self._ahead and (self._refill is None or self._refill.done()):
            self._refill = asyncio.create_task(self.warm())

    async def _make(self, *, used: bool) -> Slot:
        taken = self._used | self._making | {slot.index for slot in self._free}
        index = next(number for number in itertools.count() if number not in taken)
        if index >= self.network.capacity:
            raise NoCapacity(f"all {self.network.capacity} network slots of this node are in use")
        slot = self.network.slot(index)
        self._making.add(index)
        try:
            await asyncio.to_thread(make, slot)
        except BaseException:
            await asyncio.to_thread(destroy, slot)
            raise
        finally:
            self._making.discard(index)
        if used:
            self._used.add(index)
        return slot


def remove_leftovers(network: Network, keep: set[int]) -> int:
    """Remove every slot of this node whose number is not in ``keep``. Returns how many it removed."""
    stale = existing(network) - keep
    for index in stale:
        destroy(network.slot(index))
    return len(stale)


def enable_forwarding() -> None:
    """Let this machine forward IPv4 packets; without it guests reach nothing."""
    if IP_FORWARD.read_text().strip() != "1":
        IP_FORWARD.write_text("1\n")
