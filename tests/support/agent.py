"""A real agent as an ordinary process, with a folder of its own for what it keeps below ``/etc``."""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import thawbox.agent
from thawbox.guest import Endpoint

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
    endpoint: Endpoint
    root: Path
    pid: int
    secret_pipe: int

    def give_secret(self, secret: str) -> Endpoint:
        os.write(self.secret_pipe, f"{secret}\n".encode())
        return Endpoint(self.endpoint.host, self.endpoint.port, secret)


def _be_like_process_1() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Whoever started the tests may ignore them: nohup, a shell's "&".
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def _confined(writable: Path) -> list[str]:
    """What puts an agent of root's into a world where only ``writable`` can be written.

    The agent removes, writes and mounts what it is told to; on a host of root's, a mistake in a test must not cost
    more than the test.
    """
    if os.getuid() != 0:
        return []
    script = (
        "mount --bind / / && mount -o remount,bind,ro / "
        '&& mount --bind "$1" "$1" && mount -o remount,bind,rw "$1" && cd "$1" && shift && exec "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(writable)]


def run_agent(root: Path, writable: Path, port: int = 0) -> Iterator[Agent]:
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    secret = secrets.token_hex(32)
    read_end, write_end = os.pipe()
    os.write(write_end, f"{secret}\n".encode())
    options = ["--port", str(port), "--bind", "127.0.0.1", "--print-port", "--root", str(root)]
    with subprocess.Popen(
        [
            *_confined(writable),
            sys.executable,
            "-I",
            "-S",
            LAUNCHER,
            *options,
        ],
        stdin=read_end,
        stdout=subprocess.PIPE,
        preexec_fn=_be_like_process_1,
    ) as process:
        os.close(read_end)
        try:
            assert process.stdout is not None
            chosen = int(process.stdout.readline())
            yield Agent(Endpoint("127.0.0.1", chosen, secret), root, process.pid, write_end)
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
