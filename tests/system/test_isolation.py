"""One sandbox cannot starve another, learn another's secrets, or become root through its own agent."""

from __future__ import annotations

import mmap
import secrets
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.node.cgroups import PIDS_MAX

from .helpers.machine import cgroup_folders
from .helpers.recipes import BASE
from .helpers.waiting import wait_for
from .server import Sandbox, Server

MEMORY_MB = 256
HEADROOM_MB = 192
"""What a sandbox's own kernel may take on top (README)."""


@pytest.fixture(scope="module")
def template(server: Server) -> str:
    server.build({"alias": "isolated", "cpu": 1, "memory": MEMORY_MB, "diskGB": 1, "steps": [BASE]})
    return "isolated"


def number(folders: list[Path], *names: str) -> int:
    """The number in the first file of these names that there is."""
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return int((folder / name).read_text().split()[0])
    raise AssertionError((folders, names))


@contextmanager
def in_background(sandbox: Sandbox, line: str, seconds: float) -> Iterator[None]:
    """The shell line runs inside during the block, or until it is killed."""

    def run() -> None:
        sandbox.gateway.post(
            "/commands/run", json={"command": line, "timeout": seconds}, timeout=seconds + 60
        )

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


HOGS = {
    "fork bomb": "b() { b | b & }; b; sleep 100",
    "memory hog": "head -c 4G /dev/zero | tail",
    "busy loops": "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; sleep 100",
    "full disk": "cat /dev/zero > /fill; sleep 100",
}


@pytest.mark.parametrize("hog", HOGS)
def test_others_stay_responsive(server: Server, template: str, hog: str) -> None:
    with server.create(template) as bad, server.create(template) as good:
        folders = cgroup_folders(server, bad)
        with in_background(bad, HOGS[hog], 4):
            for _ in range(5):
                assert good.out("echo fine") == "fine"
            with server.create(template) as new:
                assert new.out("echo fine") == "fine"
        assert server.api.get("/health").status_code == 200
        assert good.out("echo fine") == "fine"
        assert server.api.delete(f"/v1/sandboxes/{bad.id}").status_code == 200
        wait_for(lambda: not any(folder.exists() for folder in folders), "its cgroup is gone")


def test_cpu_is_bounded_by_the_templates_cores(server: Server, template: str) -> None:
    """Cores used, measured from outside over the time that it really took: more than 1 is never possible."""
    with server.create(template) as sandbox:
        program = "for i in 1 2 3; do (while :; do :; done) & done; sleep 3; kill %1 %2 %3"
        folders = cgroup_folders(server, sandbox)
        before = cpu_seconds(folders)
        took = sandbox.run(f"bash -c 'set -m; {program}'")["execution_time"]
        used = cpu_seconds(folders) - before
    assert used > 0.1  # the loops did run
    assert used / took < 1.25  # three loops on a machine with more than one core; a period is 0.1 s


def cpu_seconds(folders: list[Path]) -> float:
    for folder in folders:
        if (folder / "cpu.stat").exists():
            for line in (folder / "cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) / 1e9
    ticks = 0
    for pid in (folders[0] / "cgroup.procs").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def test_memory_disk_and_processes_are_bounded(server: Server, template: str) -> None:
    with server.create(template) as sandbox:
        folders = cgroup_folders(server, sandbox)
        assert number(folders, "pids.max") == PIDS_MAX
        limit = number(folders, "memory.max", "memory.limit_in_bytes")
        assert MEMORY_MB * 2**20 <= limit <= (MEMORY_MB + HEADROOM_MB) * 2**20
        assert sandbox.out("head -c 100M /dev/zero | tail -c 100M | wc -c") == str(100 * 2**20)  # fits
        full = sandbox.run("head -c 2G /dev/zero > /fill; echo $?; stat -c %s /fill")
        assert "No space left on device" in full["stderr"]
        assert int(full["stdout"].split()[1]) <= 2**30
        assert sandbox.out("rm /fill; echo x > /small; cat /small") == "x"


def test_sandbox_that_dies_of_memory_ends_what_runs_in_it(server: Server, template: str) -> None:
    with server.create(template) as sandbox:
        result = sandbox.run(
            "head -c 1G /dev/zero | tail -c 1G | wc -c"
        )  # no 5xx: clients would run it again
        assert (result["exit_code"], result["success"]) == (137, False), result
        assert "the sandbox has ended: out of memory" in result["stderr"]
        assert server.api.get(f"/v1/sandboxes/{sandbox.id}").json()["status"] == "error"
        answer = sandbox.gateway.post("/commands/run", json={"command": "true"})
        assert (answer.status_code, answer.json()["code"]) == (409, "SANDBOX_ENDED")


def test_run_says_once_that_its_sandbox_died(server: Server, template: str) -> None:
    done = server.thaw(
        "run", template, "--", "sh", "-c", "echo begun; head -c 1G /dev/zero | tail -c 1G | wc -c"
    )
    assert (done.stdout, done.returncode) == (b"begun\n", 137)
    (said,) = done.stderr.decode().splitlines()
    assert said.startswith("thaw: Sandbox ")
    assert "has ended: out of memory" in said


def files_with(marker: bytes, *roots: Path) -> set[str]:
    """Names of files below ``roots`` that hold the bytes."""
    found = set()
    for root in roots:
        for path in [root, *root.rglob("*")] if root.exists() else []:
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    if content.find(marker) >= 0:
                        found.add(path.name)
    return found


def test_secrets_of_a_sandbox_stay_out_of_everything_that_is_kept(server: Server) -> None:
    in_recipe, at_creation, of_command = (f"marker-{secrets.token_hex(16)}" for _ in range(3))
    env = {"type": "env", "key": "OF_TEMPLATE", "value": in_recipe}
    started = "echo $OF_TEMPLATE > /dev/null; exec sleep 1000000"
    server.build({"alias": "secretive", "memory": 256, "steps": [BASE, env], "startCmd": started})
    kept = (
        *(
            server.state / name
            for name in ("snapshots", "images", "logs", "uploads", "layers", "cache", "runtime")
        ),
        *server.state.glob("thawbox.db*"),
        server.log,
    )
    with server.create("secretive", env_vars={"SECRET": at_creation}) as sandbox:
        assert sandbox.out("echo $SECRET") == at_creation
        sandbox.out("true", env={"OTHER": of_command})
        missing = {"template_name": "no-such-template", "env_vars": {"SECRET": at_creation}}
        assert server.api.post("/v1/sandboxes", json=missing).status_code == 404
        ill_typed = {"template_name": "secretive", "env_vars": {"A=B": at_creation}}
        refused = server.api.post("/v1/sandboxes", json=ill_typed)
        assert refused.status_code == 400
        assert at_creation not in refused.text
        assert at_creation not in server.api.get(f"/v1/sandboxes/{sandbox.id}").text
        for marker in (at_creation, of_command):
            assert files_with(marker.encode(), *kept) == set()
            assert marker not in command_lines()
    control = files_with(in_recipe.encode(), *kept)
    assert {"manifest.json", "pages.img"} <= control  # what is in the recipe is found, in memory, too


def command_lines() -> str:
    return subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True).stdout


INTRUDER = """
import _socket, sys
def ask(prefix):
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    sock.settimeout(15)
    sock.connect(("127.0.0.1", 7777))
    sock.sendall(prefix + b'"op":"spawn","argv":["/usr/bin/id","-un"]}\\n')
    answer = b""
    try:
        while True:
            data = sock.recv(4096)
            if not data:
                return answer
            answer += data
    except OSError:
        return answer
for secret in sys.argv[1:]:
    print(ask(b'{"secret":"' + secret.encode() + b'",'))
"""


def test_an_unprivileged_program_gets_nothing_from_the_agent(server: Server) -> None:
    user = {"type": "user", "user": "nobody"}
    server.build({"alias": "unprivileged", "memory": 256, "steps": [BASE, user]})

    def intrude(sandbox: Sandbox, *words: str) -> list[str]:
        answer = sandbox.gateway.post(
            "/commands/run",
            json={"command": INTERPRETER_ARGV[0], "args": [*INTERPRETER_ARGV[1:], "-c", INTRUDER, *words]},
        ).json()
        assert answer["exit_code"] == 0, answer
        return [line for line in answer["stdout"].splitlines() if line]

    with server.create("unprivileged") as sandbox, server.create("unprivileged") as other:
        assert sandbox.out("id -un") == "nobody"
        mine, others = secret_of(server, sandbox), secret_of(server, other)
        assert mine != others
        wrong = ["", "0" * 64, "f" * 64, others, mine[:-1] + ("0" if mine[-1] != "0" else "1"), mine[:32]]
        answers = intrude(sandbox, *wrong)
        assert len(answers) == len(wrong)
        assert all(answer == "b''" or "UNAUTHORIZED" in answer for answer in answers), answers
        assert "root" in intrude(sandbox, mine)[0]  # who knows it is root: so the secret is what protects
        for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/fd/0", "/proc/1/maps"):
            assert sandbox.run(f"head -c 1 {path}")["exit_code"] != 0, path
        assert mine not in sandbox.run("cat /proc/*/cmdline /proc/*/environ 2>/dev/null; env")["stdout"]
        assert sandbox.run("kill -9 1; echo x > /etc/passwd")["exit_code"] != 0
        assert sandbox.out("echo alive") == "alive"


def secret_of(server: Server, sandbox: Sandbox) -> str:
    database = sqlite3.connect(f"file:{server.state / 'thawbox.db'}?mode=ro", uri=True)
    try:
        ((secret,),) = database.execute("SELECT secret FROM sandboxes WHERE id = ?", (sandbox.id,))
    finally:
        database.close()
    assert isinstance(secret, str)
    return secret
