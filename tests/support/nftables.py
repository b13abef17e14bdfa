"""What an nftables table does to a packet: a small interpreter of the expressions that ``node.firewall`` uses.

Anything else in a rule is an error, so that no rule is left out unnoticed. Source: nft(8).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections import deque
from dataclasses import dataclass, field, replace

DROPPED = "dropped"

_CHAIN = re.compile(
    r"chain (\w+) \{\n\s*type \w+ hook (\w+) priority [^;]+; policy (\w+);\n(.*?)\n\s*\}", re.S
)
_TOKEN = re.compile(r'\{[^}]*\}|"[^"]*"|\S+')
_TWO_WORDS = ("ip", "meta", "ct", "th")
_VERDICTS = ("accept", "drop", "masquerade")


@dataclass(frozen=True)
class Packet:
    """One packet that passes the machine; the defaults are a new HTTPS connection."""

    source: str
    target: str
    iif: str = "eth0"
    """device by which it comes"""
    oif: str = "eth0"
    """device by which it leaves"""
    protocol: str = "tcp"
    port: int = 443
    state: str = "new"
    """of its connection"""
    kind: str = "unicast"
    """of its target, by the routing table"""

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.source


@dataclass(frozen=True)
class Table:
    """A parsed table. ``offline`` has the elements of its set of that name."""

    policies: dict[str, str]
    """hook -> policy"""
    rules: tuple[tuple[str, str], ...]
    """hook and text of each rule, in order"""
    offline: frozenset[str] = field(default_factory=frozenset)

    def without(self, index: int) -> Table:
        """The same with one rule less."""
        return replace(self, rules=self.rules[:index] + self.rules[index + 1 :])

    def forward(self, packet: Packet) -> str:
        """What becomes of a packet from one device to another."""
        redirected = self._verdict("prerouting", packet)
        if redirected.startswith("dnat "):
            packet = replace(packet, target=redirected.removeprefix("dnat "))
        if self._verdict("forward", packet) == "drop":
            return DROPPED
        return self.send(packet)

    def receive(self, packet: Packet) -> str:
        """What becomes of a packet to this machine."""
        return DROPPED if self._verdict("input", packet) == "drop" else f"received at {packet.target}"

    def send(self, packet: Packet) -> str:
        """How a packet leaves this machine."""
        masked = self._verdict("postrouting", packet) == "masquerade"
        return f"to {packet.target} from {'the host' if masked else packet.source}"

    def _verdict(self, hook: str, packet: Packet) -> str:
        for where, rule in self.rules:
            if where == hook and (verdict := self._apply(rule, packet)):
                return verdict
        return self.policies[hook]

    def _apply(self, rule: str, packet: Packet) -> str | None:
        words: deque[str] = deque(_TOKEN.findall(rule))
        while True:
            key = words.popleft()
            if key in _VERDICTS:
                assert not words, rule
                return key
            if key == "dnat":
                assert words.popleft() == "ip"
                assert words.popleft() == "to"
                return f"dnat {words.popleft()}"
            if key in _TWO_WORDS:
                key = f"{key} {words.popleft()}"
            elif key == "fib":
                key = f"{key} {words.popleft()} {words.popleft()}"
            negated = words[0] == "!="
            if negated:
                words.popleft()
            values = words.popleft().strip('{" }').replace(" ", "").split(",")
            if key.startswith("ip ") and packet.is_ipv6:
                return None  # these match IPv4 alone, whatever they compare
            if any(self._matches(key, value, packet) for value in values) == negated:
                return None

    def _matches(self, key: str, value: str, packet: Packet) -> bool:
        if key in ("iifname", "oifname"):
            device = packet.iif if key == "iifname" else packet.oif
            return device in self.offline if value == "@offline" else fnmatch.fnmatchcase(device, value)
        if key in ("ip saddr", "ip daddr"):
            address = packet.source if key == "ip saddr" else packet.target
            return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(value)
        have = {
            "meta nfproto": "ipv6" if packet.is_ipv6 else "ipv4",
            "meta l4proto": packet.protocol,
            "th dport": str(packet.port),
            "ct state": packet.state,
            "fib daddr type": packet.kind,
        }
        return have[key] == value


def parse(text: str, *, offline: frozenset[str] = frozenset()) -> Table:
    """Read the chains of one table, each with one hook of its own."""
    policies: dict[str, str] = {}
    rules: list[tuple[str, str]] = []
    for _, hook, policy, body in _CHAIN.findall(text):
        assert hook not in policies
        policies[hook] = policy
        rules += [(hook, line.strip()) for line in body.splitlines() if line.strip()]
    assert len(policies) == text.count("chain ")
    return Table(policies, tuple(rules), offline)
