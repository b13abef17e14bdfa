"""A power cut: the machine comes back with the state folder and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .helpers.lifecycle import COUNTER, ask, containers, grows, record_of
from .helpers.machine import NOTHING, left_on_machine
from .helpers.recipes import recipe, run
from .helpers.waiting import wait_for
from .server import Server


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A program that has nothing to do with us, and gets the number that a process of ours had before."""
    program = subprocess.Popen(["sleep", "1000000"])
    yield program
    program.kill()
    program.wait()


def reboot(server: Server, stranger: int) -> None:
    """What a power cut and a start of the machine do, without the machine.

    Only the state folder is left. Process ids begin anew, so one that our records name belongs to somebody else.
    """
    prefix = left_on_machine(server)["cgroups"][0].removeprefix("thawbox-")
    server.kill()
    while processes := left_on_machine(server)["processes"]:
        for pid in processes:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
    for mount in re.findall(rf" (/\S*(?:{server.state.name}/|netns/{prefix}-)\S*) ", _mounts(server, prefix)):
        subprocess.run(["umount", "-n", "--lazy", mount], check=True)
    for name in left_on_machine(server)["namespaces"]:
        Path("/run/netns", name).unlink()
    wait_for(lambda: not left_on_machine(server)["devices"], "devices go with their namespaces")
    subprocess.run(["nft", "delete", "table", "inet", f"thawbox_{prefix}"], check=True)
    for group in sorted(Path("/sys/fs/cgroup").glob(f"**/thawbox-{prefix}/**/"), reverse=True):
        group.rmdir()
    for entry in Path("/run/thawbox").glob("block-*"):
        if entry.read_text() == str(server.state.resolve()):
            entry.unlink()
    assert left_on_machine(server) == NOTHING
    (server.state / "run" / "boot").write_text("an earlier one")
    for record in (server.state / "run" / "runsc").glob("*.state"):
        record.write_text(re.sub(r'"pid":\d+', f'"pid":{stranger}', record.read_text()))
    for pid_file in (server.state / "run" / "bundles").glob("*/pid"):
        pid_file.write_text(str(stranger))


def _mounts(server: Server, prefix: str) -> str:
    return "\n".join(left_on_machine(server)["mounts"])


def test_reboot(own_server: Server, stranger: subprocess.Popen[bytes]) -> None:
    own = own_server
    own.start()
    own.build(
        recipe("powered", run("echo base > /base"), startCmd="echo s >> /var/started; exec sleep 1000000")
    )
    on_disk, stopped = own.create("powered"), own.create("powered")
    on_disk.run(COUNTER)
    for sandbox in (on_disk, stopped):
        sandbox.out("echo mine > /mine")
    ask(own, on_disk, "pause")
    ask(own, stopped, "stop")
    own.stop()  # moves what is frozen to disk
    own.start()
    running, frozen = own.create("powered"), own.create("powered")
    ask(own, frozen, "pause")
    wait_for(lambda: len(containers(own)) > 2, "some wait in the pool")
    before = {sandbox.id: record_of(own, sandbox) for sandbox in (on_disk, stopped, running, frozen)}

    reboot(own, stranger.pid)
    own.start()

    assert stranger.poll() is None  # nothing was done to whoever has an old number now
    for sandbox in (running, frozen):
        record = record_of(own, sandbox)
        assert (record["status"], record["error_message"]) == (
            "error",
            "lost while the server or the machine was down",
        )
        ask(own, sandbox, "resume", 409)
        assert own.api.delete(f"/v1/sandboxes/{sandbox.id}").status_code == 200
    for sandbox, status, verb in ((on_disk, "paused", "resume"), (stopped, "stopped", "start")):
        record = record_of(own, sandbox)
        assert (record["status"], record["public_host"]) == (status, before[sandbox.id]["public_host"])
        assert ask(own, sandbox, verb)["status"] == "running"
        assert sandbox.out("cat /base /mine; hostname") == f"base\nmine\n{sandbox.id}"
    grows(on_disk)
    assert stopped.out("cat /var/started") == "s\ns"
    with own.create("powered") as fresh:
        assert fresh.out("cat /base") == "base"
    own.build(recipe("after", run("true")))
    for sandbox in (on_disk, stopped):
        sandbox.__exit__()
    own.stop()
    assert left_on_machine(own) == NOTHING
    assert [
        *(own.state / "paused").iterdir(),
        *(own.state / "run" / "upper").iterdir(),
        *containers(own),
    ] == []
