"""What guests can reach: one nftables table per node.

Guests can reach the internet, through this machine's address, and the name server. They cannot reach each other, the
host's services, or private, link-local and metadata addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from thawbox import processes

GUEST_NAME_SERVER = "169.254.53.53"
"""The name server of every guest: an unused link-local address. Port 53 is redirected to a real one."""

_FORBIDDEN = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, "
    "224.0.0.0/4, 240.0.0.0/4"
)
"""Networks that are not the internet. Source: IANA's IPv4 Special-Purpose Address Registry (RFC 6890)."""

RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""Name servers of the host. The second has the upstream servers of a local stub (systemd-resolved)."""


def name_servers(configured: Sequence[str]) -> list[str]:
    """The ``configured`` name servers, else the IPv4 name servers of this host; empty if there are none.

    Addresses on loopback are left out: guests cannot reach them.
    """
    if configured:
        return list(configured)
    for path in RESOLVER_FILES:
        found = [address for address in _servers_in(path) if not address.is_loopback]
        if found:
            return [str(address) for address in found]
    return []


def _servers_in(path: Path) -> list[ipaddress.IPv4Address]:
    if not path.exists():
        return []
    servers = []
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                servers.append(ipaddress.IPv4Address(words[1]))
            except ValueError:
                continue
    return servers


def ruleset(table: str, devices: str, network: str, dns: Sequence[str], allow: Sequence[str] = ()) -> str:
    """Input for ``nft -f`` that creates the table, or replaces it in one transaction.

    Args:
        devices: prefix of the names of the host's ends of the guests' links.
        network: the guests' addresses, as a CIDR block.
        dns: real name servers, of which the first is used; guests resolve no names if it is empty.
        allow: addresses or CIDR blocks that guests may reach although they are private.
    """
    redirect = (
        f"iifname {devices}* ip daddr {GUEST_NAME_SERVER} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {dns[0]}"
        if dns
        else ""
    )
    allowed_dns = (
        f"iifname {devices}* ip daddr {dns[0]} meta l4proto {{ tcp, udp }} th dport 53 accept" if dns else ""
    )
    allowed = f"iifname {devices}* ip daddr {{ {', '.join(allow)} }} accept" if allow else ""
    return f"""
table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  set offline {{ type ifname; }}
  chain guests_out {{
    type filter hook forward priority -10; policy accept;
    iifname {devices}* ip saddr != {network} drop
    iifname {devices}* meta nfproto ipv6 drop
    oifname {devices}* ct state established,related accept
    oifname {devices}* drop
    iifname {devices}* ct state established,related accept
    iifname @offline drop
    {allowed_dns}
    {allowed}
    iifname {devices}* ip daddr {{ {_FORBIDDEN} }} drop
    iifname {devices}* fib daddr type {{ local, broadcast, multicast }} drop
  }}
  chain guests_in {{
    type filter hook input priority -10; policy accept;
    iifname {devices}* ct state established,related accept
    iifname {devices}* drop
  }}
  chain names {{
    type nat hook prerouting priority dstnat; policy accept;
    {redirect}
  }}
  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} oifname != "{devices}*" masquerade
  }}
}}
"""


async def install(
    table: str, devices: str, network: str, dns: Sequence[str], allow: Sequence[str] = ()
) -> None:
    """Put the table in place.

    Raises:
        RuntimeFault: nft is missing, or the kernel does not accept a rule.
    """
    await processes.run(["nft", "-f", "-"], stdin=ruleset(table, devices, network, dns, allow).encode())


async def remove(table: str) -> None:
    """Remove the table, if there is one."""
    await processes.run(["nft", "delete", "table", "inet", table], check=False)


async def set_offline(table: str, device: str, offline: bool) -> None:
    """Forbid the guest behind ``device`` all connections but those that the host opens, or allow them again.

    Raises:
        RuntimeFault: the device cannot be put into the set; the guest is not cut off then.
    """
    verb = "add" if offline else "delete"
    await processes.run(["nft", verb, "element", "inet", table, "offline", f"{{ {device} }}"], check=offline)
