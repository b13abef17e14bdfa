"""What guests may reach: one nftables table per node.

Guests reach the internet through this machine's address, and the name server; never each other, the host's own
services, private, link-local or metadata addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from thawbox import processes

GUEST_NAME_SERVER = "169.254.53.53"
"""The same in every guest; redirected to a real one. Not to be reached on any other port."""

_FORBIDDEN = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, "
    "224.0.0.0/4, 240.0.0.0/4"
)


def name_servers(configured: Sequence[str]) -> list[str]:
    """IPv4 name servers that this host uses itself, unless some are configured.

    A stub on loopback (systemd-resolved) is of no use to guests; its upstream servers are.
    """
    if configured:
        return list(configured)
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        found = [address for address in _servers_in(Path(path)) if not address.is_loopback]
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
    """The table as nft reads it; replaces an older one of the same name in one transaction.

    ``devices``: prefix of the host's ends of the guests' links. ``network``: the guests' addresses. ``dns``: real
    name servers, the first is used. ``allow``: addresses or networks that guests may reach although private.
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
    iifname {devices}* accept
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
        RuntimeFault: nft refused.
    """
    await processes.run(["nft", "-f", "-"], stdin=ruleset(table, devices, network, dns, allow).encode())


async def remove(table: str) -> None:
    """Take the table away. It is no error if there is none."""
    await processes.run(["nft", "delete", "table", "inet", table], check=False)


async def set_offline(table: str, device: str, offline: bool) -> None:
    """Cut ``device``'s guest off from everything but us, or let it out again."""
    verb = "add" if offline else "delete"
    await processes.run(["nft", verb, "element", "inet", table, "offline", f"{{ {device} }}"], check=offline)
