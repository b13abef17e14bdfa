"""A real agent as an ordinary process, with a folder of its own for what it keeps below ``/etc``."""

import ctypes
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import thawbox.agent
from thawbox.guest import Endpoint

from . import signals

LAUNCHER = Path(thawbox.agent.__file__).with_name("agent.py")
PR_SET_CHILD_SUBREAPER = 36

PASSWD = f"""root:x:0:0:root:/root:/bin/sh
me:x:{os.getuid()}:{os.getgid()}:me:/tmp:/bin/sh
somebody:x:4242:4243:somebody:/home/somebody:/bin/sh
broken line
bad:x:notanumber:0::/:/bin/sh
"""
GROUP = """root:x:0:
somebody:x:4243:
wheel:x:4250:other,somebody
video:x:4251:somebody
"""


@dataclass(frozen=True)
class Agent:
    """A running agent. Its ``/etc`` and ``/var`` are below ``root``; ``pid`` is its number on this machine."""

    endpoint: Endpoint
    root: Path
    pid: int
    secret_pipe: int

    def give_secret(self, secret: str) -> Endpoint:
        """Write a new secret into the agent's descriptor 0, as the host does before a thaw."""
        os.write(self.secret_pipe, f"{secret}\n".encode())
        return Endpoint(self.endpoint.host, self.endpoint.port, secret)


def _be_like_process_1() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signals.heard()


def _confined(writable: Path) -> list[str]:
    """A command prefix for an agent that runs as root: only ``writable``, and a ``/tmp`` of its own, can be written.

    The agent removes, writes and mounts what a request names. On a machine where tests run as root, a mistake in a
    test must not cost more than the test.
    """
    if os.getuid() != 0:
        return []
    script = (
        'exec 9<"$1" && mount --bind / / && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /tmp '
        '&& mkdir -p "$1" && mount --no-canonicalize --bind /proc/self/fd/9 "$1" && exec 9<&- '
        '&& mount -o remount,bind,rw "$1" && cd "$1" && shift && exec "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(writable)]


def run_agent(
    root: Path,
    writable: Path,
    port: int = 0,
    address: str = "127.0.0.1",
    passwd: str = PASSWD,
    group: str = GROUP,
) -> Iterator[Agent]:
    """Start an agent that listens on ``address`` and end it when the generator is closed.

    ``root`` must not exist: it is made, with the users of ``passwd`` and the groups of ``group`` in it.
    ``port`` 0: any.
    ``writable`` is the folder that the agent may write (``_confined``); ``root`` must be below it.
    """
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(passwd)
    (root / "etc/group").write_text(group)
    secret = secrets.token_hex(32)
    read_end, write_end = os.pipe()
    os.write(write_end, f"{secret}\n".encode())
    options = ["--port", str(port), "--bind", address, "--print-port", "--root", str(root)]
    with subprocess.Popen(
        [*_confined(writable), sys.executable, "-I", "-S", LAUNCHER, *options],
        stdin=read_end,
        stdout=subprocess.PIPE,
        preexec_fn=_be_like_process_1,
    ) as process:
        os.close(read_end)
        try:
            assert process.stdout is not None
            chosen = int(process.stdout.readline())
            yield Agent(Endpoint(address, chosen, secret), root, process.pid, write_end)
        finally:
            process.kill()
            os.close(write_end)


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One agent for all tests that leave it as it was."""
    yield from run_agent(tmp_path_factory.mktemp("agent") / "root", tmp_path_factory.getbasetemp())


@pytest.fixture
def own_agent(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent for a test that changes it."""
    yield from run_agent(tmp_path / "root", tmp_path_factory.getbasetemp())


@pytest.fixture
def endpoint(agent: Agent) -> Endpoint:
    return agent.endpoint
