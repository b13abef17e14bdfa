"""The proof that this runsc works on this machine: boot, freeze, twenty thaws, TCP both ways, a listener that
survives. Versions of gVisor have shipped with checkpoint or restore broken, so none is used without it.

The verdict is kept for the whole machine (``store``), under what was tested and on what: another binary, agent, kernel
or processor makes another run necessary. Each state folder also notes which agent it takes next.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from thawbox import guest, ids, processes
from thawbox import log as logs
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import GuestFault, RuntimeFault
from thawbox.node import erofs, installed, spec
from thawbox.node import opening as node_open
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container
from thawbox.node.containers import Node
from thawbox.settings import Settings
from thawbox.state import Layout
from thawbox.util import atomic

from .facts import machine_facts
from .store import Store, open_store

log = logs.get("selftest")

THAWS = 20
_EDITION = "1"
"""Of this test; raised when it demands more, so that verdicts of an easier one no longer count."""
_LISTENER = """
import socket
server = socket.create_server(("0.0.0.0", 8099))
while True:
    peer, _ = server.accept()
    peer.sendall(b"from inside:" + peer.recv(100))
    peer.close()
"""
_CALL_OUT = """
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
peer.sendall(b"hello host")
print(peer.recv(100).decode())
"""


def note_path(layout: Layout) -> Path:
    """Where a state folder keeps what passed last for it: the verdict's subject as JSON."""
    return layout.runtime / "selftest.json"


def agent_that_passed(layout: Layout) -> str | None:
    """File name of the agent's image that passed last: the one that the next server takes."""
    try:
        return str(json.loads(note_path(layout).read_text())["agent"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def is_proven(settings: Settings) -> bool:
    """Whether this runsc, with this agent, has passed on this machine as it is, and the state folder has noted it."""
    subject = _subject(settings)
    try:
        noted = json.loads(note_path(Layout(settings.state)).read_text())
    except (OSError, ValueError):
        return False
    return bool(noted == subject) and open_store(settings).has_verdict(subject)


async def run_selftest(settings: Settings) -> str:
    """Run the test, unless it has been passed on this machine already; returns a line that says how it went.

    Raises:
        RuntimeFault: this runsc must not be used; says what failed.
    """
    subject = _subject(settings)
    note, store = note_path(Layout(settings.state)), open_store(settings)
    if store.has_verdict(subject):
        atomic.write_text(note, json.dumps(subject))
        return "passed before"
    with tempfile.TemporaryDirectory(prefix="thawbox-selftest-") as folder:
        own = settings.model_copy(
            update={
                "state": Path(folder),
                "runsc": installed.installed_runsc(settings),
                "agent_image": installed.agent_image(settings),
            }
        )
        node = await node_open.open_node(own)
        try:
            times = await _exercise(node)
        except (RuntimeFault, GuestFault, guest.GuestError, TimeoutError) as error:
            raise RuntimeFault(f"{node.runsc.binary} fails its self-test and is refused: {error}") from error
        finally:
            await node.remove_leftovers(keep=())
            await node_open.close_node(node, keep=False)
    _keep_verdict(store, subject)
    atomic.write_text(note, json.dumps(subject))
    return (
        f"{len(times)} thaws, {statistics.median(times):.0f} ms at the median, "
        f"{max(times):.0f} ms at the most"
    )


def _subject(settings: Settings) -> dict[str, str]:
    """What a verdict is about: the program, the agent, the test itself, and the machine."""
    return {
        "runsc": installed.digest_of(installed.installed_runsc(settings)),
        "agent": installed.agent_image(settings).name,
        "test": _EDITION,
        **machine_facts(),
    }


def _keep_verdict(store: Store, subject: dict[str, str]) -> None:
    try:
        store.make()
        store.keep_verdict(subject)
    except (OSError, RuntimeFault) as error:  # this runsc works all the same; the next start tests again
        log.warning("verdict_not_kept", folder=str(store.folder), reason=str(error))


async def _exercise(node: Node) -> list[float]:
    """Boot an otherwise empty root, freeze it with a listener in it, thaw it many times."""
    tree = node.layout.tmp / "root"
    for name in ("proc", "sys", "dev", "tmp", "run/thawbox", "opt/thawbox", "etc", "var/log"):
        (tree / name).mkdir(parents=True)
    image = node.layout.images / "selftest.erofs"
    await erofs.make(tree, image)
    shutil.rmtree(tree)
    root = spec.Erofs(image=image, upper=node.layout.upper, disk_gb=1)
    limits = ResourceLimits(cpu=1, memory_mb=256)
    memory = node.layout.tmp / "memory"
    async with node.running(ids.sandbox_id(), root=root, limits=limits, disk_gb=1) as container:
        await guest.start(container.endpoint, argv=[*INTERPRETER_ARGV, "-c", _LISTENER])
        await _until_listening(container)
        await _call_in(container)
        await guest.quiesce(container.endpoint)
        await node.runsc.checkpoint(container.id, memory)
    times = []
    for _ in range(THAWS):
        began = time.perf_counter()
        async with node.running(
            ids.sandbox_id(), root=root, limits=limits, disk_gb=1, memory=memory
        ) as container:
            times.append((time.perf_counter() - began) * 1000)
            await _call_in(container)
            await _call_out(node, container)
    return times


async def _until_listening(container: Container) -> None:
    async with asyncio.timeout(10):
        while not await guest.probe(container.endpoint, "port", 8099):
            await asyncio.sleep(0.01)


async def _call_in(container: Container) -> None:
    word = secrets.token_hex(4).encode()
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(container.slot.guest_address, 8099)
        try:
            writer.write(word)
            answer = await reader.read(100)
        finally:
            writer.close()
            await writer.wait_closed()
    if answer != b"from inside:" + word:
        raise RuntimeFault(f"a listener inside answered {answer!r}")


async def _call_out(node: Node, container: Container) -> None:
    """Connect from the guest to a listener in this process, for which the firewall of this test's node is opened."""
    received = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not received.done():
            received.set_result(await reader.read(100))
        writer.write(b"hello guest")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(listen, container.slot.host_address, 0)
    port = server.sockets[0].getsockname()[1]
    rule = f"insert rule inet {node.table} guests_in iifname {container.slot.device} tcp dport {port} accept"
    await processes.run(["nft", rule])
    async with server:
        done = await guest.run(
            container.endpoint,
            argv=[*INTERPRETER_ARGV, "-c", _CALL_OUT, container.slot.host_address, str(port)],
            timeout=20,
        )
        if done.stdout.strip() != b"hello guest" or await received != b"hello host":
            raise RuntimeFault(f"the guest cannot call out: {done.stdout!r} {done.stderr[-300:]!r}")
