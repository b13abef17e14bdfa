"""Who may talk to whom, by the rules as nft reads them; and that no rule is superfluous."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.nftables import DROPPED, Packet, Table, parse
from thawbox import processes
from thawbox.errors import RuntimeFault
from thawbox.node import firewall

GUEST, NEIGHBOUR = "10.200.0.2", "10.200.0.6"
HOST_END = "10.200.0.1"
INTERNET = "93.184.215.14"
NAME_SERVER = "192.168.1.1"
ALLOWED = "10.9.1.1"

TEXT = firewall.ruleset(
    "thawbox_tbab12", "tbab12", "10.200.0.0/20", [NAME_SERVER, "192.168.1.2"], ["10.9.0.0/16", "172.16.0.9"]
)
TABLE = parse(TEXT, offline=frozenset({"tbab12-9"}))


def out(target: str = INTERNET, *, source: str = GUEST, iif: str = "tbab12-0", **more: Any) -> Packet:
    """A packet of a guest to ``target``."""
    return Packet(source, target, iif=iif, **more)


def to_guest(source: str = INTERNET, **more: Any) -> Packet:
    return Packet(source, GUEST, oif="tbab12-0", **more)


Way = Callable[[Table, Packet], str]
THROUGH, IN, FROM_HOST = Table.forward, Table.receive, Table.send

CASES: dict[str, tuple[Way, Packet, str]] = {
    "guest to the internet": (THROUGH, out(), f"to {INTERNET} from the host"),
    "the internet's answer": (THROUGH, to_guest(state="established"), f"to {GUEST} from {INTERNET}"),
    "an error about a connection": (THROUGH, to_guest(state="related"), f"to {GUEST} from {INTERNET}"),
    "the internet to a guest": (THROUGH, to_guest(), DROPPED),
    "the local network to a guest": (THROUGH, to_guest("192.168.1.7"), DROPPED),
    "guest to guest": (THROUGH, out(NEIGHBOUR, oif="tbab12-1"), DROPPED),
    "guest with another's address": (THROUGH, out(source="8.8.8.8"), DROPPED),
    "guest with IPv6": (THROUGH, out("2606:4700::1", source="fd00::2"), DROPPED),
    "guest asks its name server": (
        THROUGH,
        out(firewall.GUEST_NAME_SERVER, protocol="udp", port=53),
        f"to {NAME_SERVER} from the host",
    ),
    "the same over TCP": (
        THROUGH,
        out(firewall.GUEST_NAME_SERVER, port=53),
        f"to {NAME_SERVER} from the host",
    ),
    "other ports of the name server": (THROUGH, out(firewall.GUEST_NAME_SERVER, port=80), DROPPED),
    "other ports of the real name server": (THROUGH, out(NAME_SERVER, port=80), DROPPED),
    "the second name server": (THROUGH, out("192.168.1.2", port=53), DROPPED),
    "an allowed network": (THROUGH, out(ALLOWED), f"to {ALLOWED} from the host"),
    "an allowed address": (THROUGH, out("172.16.0.9"), "to 172.16.0.9 from the host"),
    "beside an allowed address": (THROUGH, out("172.16.0.10"), DROPPED),
    "a public address of the host": (THROUGH, out("203.0.113.5", kind="local"), DROPPED),
    "a broadcast address": (THROUGH, out("203.0.113.255", kind="broadcast"), DROPPED),
    "a multicast address": (THROUGH, out("203.0.113.254", kind="multicast"), DROPPED),
    "an offline guest to the internet": (THROUGH, out(iif="tbab12-9"), DROPPED),
    "an offline guest to an allowed network": (THROUGH, out(ALLOWED, iif="tbab12-9"), DROPPED),
    "an offline guest to its name server": (
        THROUGH,
        out(firewall.GUEST_NAME_SERVER, iif="tbab12-9", port=53),
        DROPPED,
    ),
    "an offline guest on an open connection": (
        THROUGH,
        out(iif="tbab12-9", state="established"),
        f"to {INTERNET} from the host",
    ),
    "guest to a service of the host": (IN, out(HOST_END, port=22), DROPPED),
    "guest answers the host": (IN, out(HOST_END, state="established"), f"received at {HOST_END}"),
    "anybody else to the host": (IN, Packet("192.168.1.7", "192.168.1.5"), "received at 192.168.1.5"),
    "anybody else through the host": (
        THROUGH,
        Packet("192.168.1.7", INTERNET, iif="eth1"),
        f"to {INTERNET} from 192.168.1.7",
    ),
    "the host to a guest": (FROM_HOST, to_guest(HOST_END), f"to {GUEST} from {HOST_END}"),
}
PRIVATE = [
    "0.0.0.1", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.254",
    "192.168.1.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_who_may_talk_to_whom(name: str) -> None:
    way, packet, fate = CASES[name]
    assert way(TABLE, packet) == fate


@pytest.mark.parametrize("target", PRIVATE)
def test_guests_do_not_reach_private_addresses(target: str) -> None:
    assert TABLE.forward(out(target)) == DROPPED


@pytest.mark.parametrize(
    "target", ["9.255.255.255", "100.63.255.255", "172.15.0.1", "172.32.0.1", "223.255.255.1"]
)
def test_the_neighbours_of_private_networks_are_the_internet(target: str) -> None:
    assert TABLE.forward(out(target)) == f"to {target} from the host"


@pytest.mark.parametrize("index", range(len(TABLE.rules)), ids=[rule for _, rule in TABLE.rules])
def test_no_rule_can_be_left_out(index: int) -> None:
    less = TABLE.without(index)
    changed = [name for name, (way, packet, fate) in CASES.items() if way(less, packet) != fate]
    changed += [target for target in PRIVATE if less.forward(out(target)) != DROPPED]
    assert changed


def test_without_name_servers_and_exceptions() -> None:
    bare = parse(firewall.ruleset("thawbox_tbab12", "tbab12", "10.200.0.0/20", []))
    assert bare.forward(out(firewall.GUEST_NAME_SERVER, port=53)) == DROPPED
    assert bare.forward(out(ALLOWED)) == DROPPED
    assert bare.forward(out()) == f"to {INTERNET} from the host"


def test_only_questions_for_names_are_redirected_to_a_public_name_server() -> None:
    public = parse(firewall.ruleset("thawbox_tbab12", "tbab12", "10.200.0.0/20", ["8.8.8.8"]))
    question = out(firewall.GUEST_NAME_SERVER, protocol="udp", port=53)
    assert public.forward(question) == "to 8.8.8.8 from the host"
    assert public.forward(out(firewall.GUEST_NAME_SERVER, port=443)) == DROPPED
    assert public.forward(out(firewall.GUEST_NAME_SERVER, protocol="sctp", port=53)) == DROPPED


def test_an_older_table_is_replaced_in_one_transaction() -> None:
    first, second, third, fourth, *_ = TEXT.split("\n")[1:]
    assert (first, second) == ("table inet thawbox_tbab12 {}", "delete table inet thawbox_tbab12")
    assert (third, fourth.strip()) == ("table inet thawbox_tbab12 {", "set offline { type ifname; }")


async def test_nft_is_given_the_rules(commands: list[list[str]], inputs: list[bytes | None]) -> None:
    await firewall.install("thawbox_tbab12", "tbab12", "10.200.0.0/20", [NAME_SERVER], [ALLOWED])
    assert commands == [["nft", "-f", "-"]]
    text = firewall.ruleset("thawbox_tbab12", "tbab12", "10.200.0.0/20", [NAME_SERVER], [ALLOWED])
    assert inputs == [text.encode()]


async def test_a_guest_is_cut_off_and_let_out(commands: list[list[str]]) -> None:
    await firewall.set_offline("thawbox_x", "tb-3", offline=True)
    await firewall.set_offline("thawbox_x", "tb-3", offline=False)
    element = ["element", "inet", "thawbox_x", "offline", "{ tb-3 }"]
    assert commands == [["nft", "add", *element], ["nft", "delete", *element]]


async def test_only_cutting_off_must_not_fail_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(argv: list[str], *, check: bool = True, **_: Any) -> None:
        if check:
            raise RuntimeFault(f"nft ended with status 1: {argv}")

    monkeypatch.setattr(processes, "run", run)
    await firewall.set_offline("thawbox_x", "tb-3", offline=False)
    await firewall.remove("thawbox_x")
    with pytest.raises(RuntimeFault):
        await firewall.set_offline("thawbox_x", "tb-3", offline=True)


def test_name_servers_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub, upstream = tmp_path / "stub", tmp_path / "upstream"
    monkeypatch.setattr(firewall, "RESOLVER_FILES", (stub, upstream))
    assert firewall.name_servers([]) == []
    stub.write_text("# a comment\nnameserver 127.0.0.53\noptions edns0\n")
    assert firewall.name_servers([]) == []
    upstream.write_text("search example\nnameserver fe80::1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert firewall.name_servers([]) == ["192.0.2.1", "192.0.2.2"]
    stub.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.9\n")
    assert firewall.name_servers([]) == ["192.0.2.9"]
    assert firewall.name_servers(["198.51.100.1"]) == ["198.51.100.1"]
