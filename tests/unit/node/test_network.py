"""A state folder's block of the guest network."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from thawbox.errors import NoCapacity
from thawbox.node import netns, slots
from thawbox.node.slots import Network, claim_network, release_network

GUESTS = "10.200.0.0/18"  # four blocks


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ipaddress.IPv4Address]:
    """Addresses that the machine has beside those of the claiming node."""
    found: list[ipaddress.IPv4Address] = []
    monkeypatch.setattr(slots, "addresses_of_others", lambda prefix: found)
    monkeypatch.setattr(slots, "REGISTER", tmp_path / "register")
    return found


def state(tmp_path: Path, name: str = "state") -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder


def test_a_block_is_stable(tmp_path: Path) -> None:
    first = claim_network(state(tmp_path), GUESTS)
    assert first.block == ipaddress.IPv4Network("10.200.0.0/20")
    claim_network(state(tmp_path, "another"), GUESTS)
    assert claim_network(tmp_path / "another" / ".." / "state", GUESTS) == first


def test_a_block_is_exclusive_until_all_are_taken(tmp_path: Path) -> None:
    claimed = [claim_network(state(tmp_path, name), GUESTS) for name in "abcd"]
    assert len({network.block for network in claimed}) == 4
    with pytest.raises(NoCapacity, match=r"every /20 of the guest network 10\.200\.0\.0/18 is taken"):
        claim_network(state(tmp_path, "e"), GUESTS)
    assert claim_network(tmp_path / "c", GUESTS) == claimed[2]


def test_a_block_given_back_is_free(tmp_path: Path) -> None:
    a, b = state(tmp_path, "a"), state(tmp_path, "b")
    block = claim_network(a, GUESTS)
    release_network(a, block)
    assert claim_network(b, GUESTS).block == block.block
    release_network(a, block)  # no longer its own: nothing happens
    assert claim_network(a, GUESTS).block != block.block


def test_the_block_of_a_vanished_folder_is_free(tmp_path: Path) -> None:
    gone = state(tmp_path, "gone")
    block = claim_network(gone, GUESTS).block
    gone.rmdir()
    assert claim_network(state(tmp_path), GUESTS).block == block


def test_but_not_while_its_sandboxes_run(tmp_path: Path, addresses: list[ipaddress.IPv4Address]) -> None:
    gone = state(tmp_path, "gone")
    claim_network(gone, GUESTS)
    gone.rmdir()
    addresses.append(ipaddress.IPv4Address("10.200.0.1"))
    assert claim_network(state(tmp_path), GUESTS).block == ipaddress.IPv4Network("10.200.16.0/20")


def test_a_block_that_the_machine_uses_otherwise_is_left_alone(
    tmp_path: Path, addresses: list[ipaddress.IPv4Address]
) -> None:
    addresses += [ipaddress.IPv4Address(text) for text in ("192.168.1.5", "10.200.5.7", "10.200.20.1")]
    assert claim_network(state(tmp_path), GUESTS).block == ipaddress.IPv4Network("10.200.32.0/20")


def test_the_register_is_private_and_names_owners(tmp_path: Path) -> None:
    claim_network(state(tmp_path), GUESTS)
    assert slots.REGISTER.stat().st_mode & 0o777 == 0o700
    assert (slots.REGISTER / "block-10.200.0.0").read_text() == str(tmp_path / "state")


def test_slots_are_the_blocks_quarters() -> None:
    network = Network("tbab12", ipaddress.IPv4Network("10.200.16.0/20"))
    assert network.capacity == 1024
    slot = network.slot(65)
    assert (slot.index, slot.device, slot.netns) == (65, "tbab12-65", netns.FOLDER / "tbab12-65")
    assert (slot.host_address, slot.guest_address) == ("10.200.17.5", "10.200.17.6")
    last = network.slot(network.capacity - 1)
    assert ipaddress.IPv4Address(last.guest_address) in network.block
    # Linux has 15 characters for the name of a device.
    assert len(last.device) <= 15


@pytest.mark.parametrize(("before", "after"), [("0\n", "1\n"), ("1\n", "1\n")])
def test_forwarding_is_switched_on(
    tmp_path: Path, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ip_forward"
    file.write_text(before)
    monkeypatch.setattr(slots, "IP_FORWARD", file)
    slots.enable_forwarding()
    assert file.read_text() == after
