"""What a sandbox reaches over the network, and what it does not. Each refusal has a control that gets through."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from pyroute2 import IPRoute

from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.node.slots import Network, Slot, claim_network
from thawbox.settings import load

from .helpers.recipes import BASE
from .helpers.waiting import wait_for
from .server import Sandbox, Server

WAIT_S = 2
"""How long a connection that does not come about is tried."""
NEIGHBOUR_PORT = 8765
NEIGHBOURS = ("10.77.77.2", "192.168.77.2", "172.31.77.2", "100.64.77.2", "169.254.77.2", "203.0.113.77")
"""Addresses of a machine beside this one; only the last is no private one."""


@pytest.fixture(scope="module")
def template(server: Server) -> str:
    server.build({"alias": "network", "cpu": 1, "memory": 256, "diskGB": 1, "steps": [BASE]})
    return "network"


def network_of(server: Server) -> Network:
    return claim_network(server.state, load().guest_network)  # what it has already


def slot_of(server: Server, sandbox: Sandbox) -> Slot:
    """Found by its address, as the sandbox sees it."""
    program = (
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => '192.0.2.1:9', Proto => 'udp'); "
        "print $s->sockhost"
    )
    address = ipaddress.IPv4Address(sandbox.out(f'perl -e "{program.replace("$", chr(92) + "$")}"'))
    network = network_of(server)
    assert address in network.block
    slot = network.slot((int(address) - int(network.block.network_address)) // 4)
    assert slot.guest_address == str(address)
    return slot


def reaches(sandbox: Sandbox, host: str, port: int) -> bool:
    """Whether a TCP connection from inside comes about."""
    line = f"timeout {WAIT_S} bash -c 'exec 3<>/dev/tcp/{host}/{port}' 2>/dev/null"
    return bool(sandbox.run(line)["exit_code"] == 0)


def all_of(sandbox: Sandbox, targets: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of ``targets`` that are reached; asked side by side."""
    tries = "\n".join(
        f"(timeout {WAIT_S} bash -c 'exec 3<>/dev/tcp/{host}/{port}' 2>/dev/null && echo {host} {port}) &"
        for host, port in targets
    )
    lines = sandbox.out(f"{tries}\nwait").splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines]


@contextmanager
def listener() -> Iterator[tuple[int, list[str]]]:
    """A listener on all of this machine's addresses: its port, and who connected."""
    seen: list[str] = []
    with socket.create_server(("0.0.0.0", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    peer, address = server.accept()
                except OSError:
                    return
                seen.append(address[0])
                peer.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], seen
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def own_addresses() -> list[str]:
    with IPRoute() as host:
        return [str(entry.get("address")) for entry in host.get_addr(family=socket.AF_INET)]


@pytest.fixture(scope="module")
def neighbour() -> Iterator[None]:
    """Another machine on a link of this one: a namespace with addresses of every kind, and a listener on them."""
    name = f"tbtest{os.getpid() % 100_000}"
    inside = ["ip", "netns", "exec", name]

    def ip(*words: str, at: tuple[str, ...] = ()) -> None:
        subprocess.run([*at, "ip", *words], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", name, "up")
        ip("link", "set", "eth0", "up", at=tuple(inside))
        for address in NEIGHBOURS:
            ours = str(ipaddress.IPv4Address(address) - 1)
            ip("addr", "add", f"{ours}/30", "dev", name)
            ip("addr", "add", f"{address}/30", "dev", "eth0", at=tuple(inside))
        program = (
            "import socket; s = socket.create_server(('0.0.0.0', " + str(NEIGHBOUR_PORT) + ")); "
            "print('up', flush=True)\nwhile True: s.accept()[0].close()"
        )
        process = subprocess.Popen([*inside, "python3", "-c", program], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield
        finally:
            process.kill()
            process.communicate()
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_the_internet_by_name(server: Server, template: str) -> None:
    with server.create(template) as online, server.create(template, internet_access=False) as offline:
        host = online.out("grep -o '//[^/ ]*' /etc/apt/sources.list | head -1 | cut -c3-")
        address = online.out(f"getent ahostsv4 {host}").split()[0]
        assert reaches(online, host, 80)
        assert reaches(online, address, 80)
        assert offline.run(f"timeout 10 getent ahostsv4 {host}")["exit_code"] != 0
        assert not reaches(offline, address, 80)
        assert not reaches(offline, "169.254.53.53", 53)
        assert offline.out("echo still there") == "still there"  # we do reach it


def test_not_the_host(server: Server, template: str) -> None:
    with (
        listener() as (port, seen),
        server.create(template) as online,
        server.create(template, internet_access=False) as offline,
    ):
        addresses = [address for address in own_addresses() if not address.startswith("127.")]
        slots = [slot_of(server, sandbox) for sandbox in (online, offline)]
        assert {slot.host_address for slot in slots} <= set(addresses)
        for address in addresses:
            socket.create_connection((address, port), timeout=10).close()
        wait_for(lambda: len(seen) == len(addresses), "all connections of our own arrived")
        for sandbox in (online, offline):
            ports = (port, server.port, server.gateway_port, 22)
            assert all_of(sandbox, [(address, at) for address in addresses for at in ports]) == []
        assert len(seen) == len(addresses)


def test_not_the_hosts_loopback(server: Server, template: str) -> None:
    assert server.api.get("/health").status_code == 200  # the server listens on 127.0.0.1
    with server.create(template) as sandbox:
        assert not reaches(sandbox, "127.0.0.1", server.port)
        assert not reaches(sandbox, "localhost", server.gateway_port)
        assert reaches(sandbox, "127.0.0.1", 7777)  # its own loopback works: that is its agent


def test_not_each_other(server: Server, template: str) -> None:
    listen = (
        "use IO::Socket::INET; "
        "my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9, ReuseAddr => 1) or die; "
        "open(my $f, '>', '/tmp/listening'); close($f); while (1) { $s->accept }"
    )
    with server.create(template) as one, server.create(template) as other:
        other.gateway.post("/files/write", json={"path": "/tmp/listen.pl", "content": listen})
        other.out("perl /tmp/listen.pl >/dev/null 2>&1 & until test -e /tmp/listening; do sleep 0.05; done")
        address = slot_of(server, other).guest_address
        for port in (7777, 8000):
            with closing(socket.create_connection((address, port), timeout=10)):
                pass  # from here both ports are open
        assert reaches(other, address, 8000)
        assert all_of(one, [(address, 7777), (address, 8000)]) == []


def test_not_private_neighbours_nor_metadata(server: Server, template: str, neighbour: None) -> None:
    for address in NEIGHBOURS:
        socket.create_connection((address, NEIGHBOUR_PORT), timeout=10).close()
    with server.create(template) as sandbox:
        targets = [(address, NEIGHBOUR_PORT) for address in NEIGHBOURS]
        targets += [
            ("169.254.169.254", 80),
            ("169.254.53.53", 80),
            ("224.0.0.1", 80),
            ("255.255.255.255", 80),
        ]
        assert all_of(sandbox, targets) == [(NEIGHBOURS[-1], NEIGHBOUR_PORT)]  # forwarding as such works


def test_private_addresses_that_the_operator_allows(own_server: Server, neighbour: None) -> None:
    own_server.settings["THAWBOX_GUEST_ALLOW"] = '["10.77.77.0/30"]'
    own_server.start()
    own_server.build({"alias": "allowed", "cpu": 1, "memory": 256, "diskGB": 1, "steps": [BASE]})
    targets = [(address, NEIGHBOUR_PORT) for address in NEIGHBOURS[:-1]]
    with (
        own_server.create("allowed") as online,
        own_server.create("allowed", internet_access=False) as offline,
    ):
        assert all_of(online, targets) == [("10.77.77.2", NEIGHBOUR_PORT)]
        assert all_of(offline, targets) == []


def test_two_servers_sandboxes_do_not_reach_each_other(
    server: Server, template: str, own_server: Server
) -> None:
    own_server.start()
    own_server.build({"alias": "elsewhere", "cpu": 1, "memory": 256, "diskGB": 1, "steps": [BASE]})
    with own_server.create("elsewhere") as there, server.create(template) as here:
        addresses = (slot_of(own_server, there).guest_address, slot_of(server, here).guest_address)
        for address in addresses:
            socket.create_connection((address, 7777), timeout=10).close()
        assert not reaches(here, addresses[0], 7777)
        assert not reaches(there, addresses[1], 7777)


RAW = """
import _socket
for family, kind, protocol in ((2, 3, 1), (2, 3, 255), (10, 3, 58), (17, 3, 0x300), (17, 2, 0x300)):
    try:
        _socket.socket(family, kind, protocol)
    except OSError as error:
        print(error.errno)
    else:
        print("open")
"""


def test_no_raw_sockets(server: Server, template: str) -> None:
    with server.create(template) as sandbox:
        program = {"command": INTERPRETER_ARGV[0], "args": [*INTERPRETER_ARGV[1:], "-c", RAW]}
        done = sandbox.gateway.post("/commands/run", json=program).json()
        assert sandbox.out("id -u") == "0"  # not even root
    refused = done["stdout"].split()
    assert len(refused) == 5, done
    assert "open" not in refused
