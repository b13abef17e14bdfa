"""Identity, counters, probes and quiet."""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import Agent, run_agent
from thawbox import guest
from thawbox.guest import Endpoint, GuestError
from thawbox.guest.channel import connect


async def test_init_gives_names_and_may_be_repeated(own_agent: Agent) -> None:
    for name in ("first", "second"):
        await guest.init(
            own_agent.endpoint,
            env={"NAME": name},
            hostname_file=f"{name}\n",
            entropy=os.urandom(32),
            hosts=f"127.0.0.1 {name}\n",
            resolv_conf=f"search {name}\n",
        )
        assert (own_agent.root / "etc/hostname").read_text() == f"{name}\n"
        assert (own_agent.root / "etc/hosts").read_text() == f"127.0.0.1 {name}\n"
        assert (own_agent.root / "etc/resolv.conf").read_text() == f"search {name}\n"
        assert (await guest.run(own_agent.endpoint, shell="echo $NAME")).stdout.decode() == f"{name}\n"
    assert (own_agent.root / "workspace").is_dir()


async def test_init_leaves_alone_what_it_does_not_name(own_agent: Agent) -> None:
    (own_agent.root / "etc/hosts").write_text("mine\n")
    await guest.init(own_agent.endpoint, env={"A": "1"})
    await guest.init(own_agent.endpoint, hostname_file="box\n")
    assert (own_agent.root / "etc/hosts").read_text() == "mine\n"
    assert not (own_agent.root / "etc/resolv.conf").exists()
    assert (await guest.run(own_agent.endpoint, shell="echo $A")).stdout == b"1\n"


async def test_an_environment_replaces_the_one_before(own_agent: Agent) -> None:
    await guest.init(own_agent.endpoint, env={"A": "1"})
    await guest.init(own_agent.endpoint, env={"B": "2"})
    assert (await guest.run(own_agent.endpoint, shell="echo $A$B")).stdout == b"2\n"


async def test_a_link_for_name_servers_is_replaced_not_followed(own_agent: Agent) -> None:
    etc = own_agent.root / "etc"
    (etc / "elsewhere").write_text("untouched\n")
    (etc / "resolv.conf").symlink_to("elsewhere")
    await guest.init(own_agent.endpoint, resolv_conf="nameserver 192.0.2.1\n")
    assert (etc / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert (etc / "elsewhere").read_text() == "untouched\n"


@pytest.mark.parametrize(
    "fields",
    [
        {"env": {"A": 1}},
        {"env": []},
        {"entropy": "xyz"},
        {"entropy": 5},
        {"hostname_file": ""},
        {"hosts": 5},
        {"resolv_conf": ["192.0.2.1"]},
    ],
)
async def test_ill_formed_init(endpoint: Endpoint, fields: dict[str, object]) -> None:
    with pytest.raises(GuestError) as caught:
        async with connect(endpoint, "init", fields) as channel:
            await channel.receive()
    assert caught.value.code == "INVALID"


async def test_usage_counts(endpoint: Endpoint) -> None:
    usage = await guest.usage(endpoint)
    assert 0 < usage["memory_used"] < usage["memory_total"]
    assert 0 <= usage["disk_used"] < usage["disk_total"]
    assert usage["processes"] > 1
    assert usage["cpus"] >= 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_probe_of_a_port(endpoint: Endpoint, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    port = server.getsockname()[1]
    try:
        assert await guest.probe(endpoint, "port", port)
    finally:
        server.close()
    assert not await guest.probe(endpoint, "port", port)


async def test_probe_of_a_file(endpoint: Endpoint, tmp_path: Path) -> None:
    assert not await guest.probe(endpoint, "file", str(tmp_path / "f"))
    (tmp_path / "f").touch()
    assert await guest.probe(endpoint, "file", str(tmp_path / "f"))


async def test_probe_of_a_process_by_command_and_by_name(endpoint: Endpoint, tmp_path: Path) -> None:
    name = f"gt{os.getpid()}"
    (tmp_path / name).symlink_to("/bin/sleep")
    assert not await guest.probe(endpoint, "process", name)
    async with guest.spawn(endpoint, argv=[str(tmp_path / name), "1000"]) as process:
        assert await guest.probe(endpoint, "process", name)
        comm = Path(f"/proc/{process.pid}/comm").read_text().strip()
        assert await guest.probe(endpoint, "process", comm)


@pytest.mark.parametrize(
    ("kind", "target"),
    [("port", 0), ("port", 65536), ("port", "80"), ("file", 5), ("process", ""), ("moon", "full")],
)
async def test_ill_formed_probe(endpoint: Endpoint, kind: str, target: int | str) -> None:
    with pytest.raises(GuestError) as caught:
        await guest.probe(endpoint, kind, target)
    assert caught.value.code == "INVALID"


@pytest.mark.parametrize(("answer", "code"), [("200 OK", 0), ("204 No Content", 1), ("500 Oops", 1)])
async def test_the_url_script_accepts_200_alone(answer: str, code: int) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(
                f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    argv = guest.url_probe_argv(f"http://127.0.0.1:{port}/")
    script = argv[argv.index("-c") :]
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/env", "-i", "python3", "-I", "-S", *script, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == code
    thread.join()
    server.close()


async def test_quiesce_leaves_no_connection(own_agent: Agent) -> None:
    await guest.ping(own_agent.endpoint)
    await guest.quiesce(own_agent.endpoint)
    port = f":{own_agent.endpoint.port:04X}"
    async with asyncio.timeout(20):
        while True:
            lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
            states = {line.split()[3] for line in lines if line.split()[1].endswith(port)}
            if not states & {"01", "08"}:  # established, or closed by the other side only
                break
            await asyncio.sleep(0.01)
    await guest.ping(own_agent.endpoint)


async def test_added_environment(own_agent: Agent) -> None:
    await guest.init(own_agent.endpoint, env={"A": "1", "B": "2"})
    await guest.init(own_agent.endpoint, env_add={"B": "3", "C": "4"})
    done = await guest.run(own_agent.endpoint, shell="echo $A $B $C")
    assert done.stdout == b"1 3 4\n"


@pytest.fixture
def fixed_agent(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent that will listen on the same port when it begins afresh."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    yield from run_agent(tmp_path / "root", tmp_path_factory.getbasetemp(), port)


async def test_renewed_agent_has_forgotten_everything_and_its_children_live(fixed_agent: Agent) -> None:
    own_agent = fixed_agent
    await guest.init(own_agent.endpoint, env={"TOKEN": "not-to-be-found-again"})
    child = await guest.start(own_agent.endpoint, argv=["sleep", "60"])
    await guest.renew(own_agent.endpoint)
    assert b"not-to-be-found-again" not in memory_of(own_agent.pid)
    assert Path(f"/proc/{child}/comm").read_text() == "sleep\n"
    with pytest.raises(guest.GuestError, match="secret"):
        await guest.ping(own_agent.endpoint)
    again = own_agent.give_secret(secrets.token_hex(32))
    done = await guest.run(again, shell="echo [$TOKEN]")
    assert done.stdout == b"[]\n"
    assert await guest.kill(again, pid=child)


def memory_of(pid: int) -> bytes:
    """All that the process has in memory that can be written."""
    found = bytearray()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, permissions = line.split()[:2]
            if permissions.startswith("rw"):
                begin, end = (int(word, 16) for word in span.split("-"))
                memory.seek(begin)
                found += memory.read(end - begin)
    return bytes(found)
