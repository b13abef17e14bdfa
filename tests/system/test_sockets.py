"""Terminals, watched folders and large files of real sandboxes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .helpers.recipes import BASE
from .server import Sandbox, Server

FILE_MB = 300


@pytest.fixture(scope="module")
def sandbox(server: Server) -> Iterator[Sandbox]:
    tools = {"type": "apt", "packages": ["procps"]}
    workspace = {"type": "run", "command": "mkdir -p /workspace"}
    recipe = {"alias": "sockets", "cpu": 1, "memory": 1024, "diskGB": 1, "steps": [BASE, tools, workspace]}
    server.build(recipe)
    with server.create("sockets") as made:
        yield made


@contextmanager
def opened(sandbox: Sandbox, path: str) -> Iterator[ClientConnection]:
    url = sandbox.record["public_host"].replace("http", "ws", 1) + path
    headers = {"Authorization": f"Bearer {sandbox.record['auth_token']}"}
    with connect(url, additional_headers=headers, proxy=None) as socket:
        yield socket


def say(socket: ClientConnection, **fields: Any) -> None:
    socket.send(json.dumps(fields))


def frame(socket: ClientConnection, seconds: float = 20) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(socket.recv(timeout=seconds))
    return value


def until(socket: ClientConnection, pattern: str) -> str:
    printed = ""
    while not re.search(pattern, printed):
        printed += frame(socket)["data"]
    return printed


def type_line(socket: ClientConnection, line: str) -> None:
    say(socket, type="input", data=line + "\n")


def test_shell_on_a_terminal(sandbox: Sandbox) -> None:
    with opened(sandbox, "/terminal") as socket:
        until(socket, r"[$#] ")
        type_line(socket, "shopt login_shell; tty; pwd; stty size; id -u")
        printed = until(socket, r"\r\n0\r\n")
        assert re.search(r"login_shell\s+on\r\n/dev/pts/\d+\r\n/workspace\r\n24 80\r\n0\r\n", printed)
        type_line(socket, """sh -c 'echo be""gun; exec sleep 1000'""")
        until(socket, "begun")
        say(socket, type="input", data="\x03")
        until(socket, r"[$#] ")
        type_line(socket, "exit 5")
        last = frame(socket)
        while last["type"] == "output":
            last = frame(socket)
        assert last == {"type": "exit", "code": 5, "exitCode": 5}
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)
        assert socket.close_code == 1000


def test_full_screen_program_redraws_when_the_terminal_changes(sandbox: Sandbox) -> None:
    with opened(sandbox, "/terminal?start=1") as socket:
        say(socket, type="start", command="top", args=["-d", "60"], rows=10, cols=60)
        until(socket, "load average")
        say(socket, type="resize", rows=30, cols=100)
        # Nothing is due for a minute: what is drawn now is because of the new size, and has its width.
        printed = until(socket, "load average[^\n]*\n(.*\n){5}")
        assert max(len(line) for line in re.sub(r"\x1b[^A-Za-z]*[A-Za-z]", "", printed).splitlines()) > 60


def test_characters_cut_between_reads_are_whole(sandbox: Sandbox) -> None:
    with opened(sandbox, "/terminal?start=1") as socket:
        line = r"printf '\342'; sleep 0.05; printf '\202'; sleep 0.05; printf '\254.'"
        say(socket, type="start", command=line)
        assert until(socket, r"\.") == "€."


def test_client_that_goes_takes_the_shell_with_it(sandbox: Sandbox) -> None:
    with opened(sandbox, "/terminal") as socket:
        until(socket, r"[$#] ")
        type_line(socket, "sleep 4321 & echo job=$!")
        until(socket, r"job=\d+")
        assert sandbox.out("pgrep -fx 'sleep 4321'")
    deadline = time.monotonic() + 10
    while sandbox.run("pgrep -fx 'sleep 4321'")["exit_code"] == 0:
        assert time.monotonic() < deadline


def test_terminal_belongs_to_the_templates_user(server: Server, sandbox: Sandbox) -> None:
    steps = [BASE, {"type": "run", "command": "useradd --create-home me"}, {"type": "user", "user": "me"}]
    server.build({"alias": "sockets-user", "cpu": 1, "memory": 512, "diskGB": 1, "steps": steps})
    with server.create("sockets-user") as other, opened(other, "/terminal?start=1") as socket:
        say(socket, type="start", command="id -un; echo by name > /dev/tty; stat -c %U $(tty)")
        assert until(socket, "name\r\nme\r\n") == "me\r\nby name\r\nme\r\n"


def test_sandbox_that_is_deleted_ends_its_terminals(server: Server, sandbox: Sandbox) -> None:
    with server.create("sockets") as other, opened(other, "/terminal") as socket:
        until(socket, r"[$#] ")
        server.api.delete(f"/v1/sandboxes/{other.id}")
        last: dict[str, Any] = {}
        with contextlib.suppress(ConnectionClosed):
            while True:
                last = frame(socket)
        assert last == {"type": "exit", "code": -1, "exitCode": -1}


def test_watch_sees_what_is_written(sandbox: Sandbox) -> None:
    with opened(sandbox, "/files/watch") as socket:
        say(socket, action="watch", path="/workspace", ack=True)
        assert frame(socket)["method"] == "inotify"
        seen = set()
        sandbox.gateway.post("/files/write", json={"path": "/workspace/watched", "content": "1"})
        began = time.monotonic()
        seen.add(frame(socket, 2)["event"])
        sandbox.gateway.post("/files/write", json={"path": "/workspace/watched", "content": "2"})
        seen.add(frame(socket, 2)["event"])
        assert seen == {"created", "modified"}
        assert time.monotonic() - began < 2
        sandbox.out("mkdir -p /workspace/deep/er && touch /workspace/deep/er/f")
        while frame(socket)["path"] != "/workspace/deep/er/f":
            pass


def test_large_file_up_and_down_in_little_memory(server: Server, sandbox: Sandbox, tmp_path: Path) -> None:
    block = bytes(range(256)) * 4096
    local = tmp_path / "large"
    with local.open("wb") as file:
        for _ in range(FILE_MB):
            file.write(block)
    assert server.process is not None
    before = _peak_kb(server.process.pid)
    agent_before = int(sandbox.out("grep VmRSS /proc/1/status").split()[1])
    with local.open("rb") as file:
        sent = sandbox.gateway.post("/files/upload", data={"path": "/workspace/large"}, files={"file": file})
    assert (sent.status_code, sent.json()["size"]) == (200, FILE_MB * len(block)), sent.text
    whole = hashlib.sha256()
    with sandbox.gateway.stream("GET", "/files/download", params={"path": "/workspace/large"}) as got:
        for chunk in got.iter_bytes():
            whole.update(chunk)
    with local.open("rb") as file:
        assert whole.hexdigest() == hashlib.file_digest(file, "sha256").hexdigest()
    assert _peak_kb(server.process.pid) - before < 60_000
    assert int(sandbox.out("grep VmRSS /proc/1/status").split()[1]) - agent_before < 20_000
    sandbox.gateway.delete("/files/remove", params={"path": "/workspace/large"})


def _peak_kb(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_full_disk_is_a_client_error_and_leaves_room(sandbox: Sandbox) -> None:
    def endless() -> Iterator[bytes]:
        head = b'--X\r\nContent-Disposition: form-data; name="path"\r\n\r\n/workspace/toomuch\r\n'
        yield head + b'--X\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        block = b"x" * 1024 * 1024
        for _ in range(512):
            yield block

    sandbox.out("head -c 900M /dev/zero > /workspace/fill")  # of 1 GB; faster than over HTTP
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    answer = sandbox.gateway.post("/files/upload", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "DISK_FULL")
    assert sandbox.gateway.post("/files/write", json={"path": "/workspace/f", "content": "x"}).is_success
    assert sandbox.out("ls -A /workspace | grep -c thawbox || true") == "0"
    sandbox.out("rm /workspace/fill")


def test_exec_from_a_terminal(server: Server, sandbox: Sandbox) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(ours, (31, 97))
    before = termios.tcgetattr(theirs)
    environment = {**os.environ, "THAWBOX_STATE": str(server.state), "THAWBOX_URL": server.url}
    argv = [sys.executable, "-m", "thawbox.cli.main", "exec", sandbox.id, "--env", "X=y z"]
    with subprocess.Popen(argv, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        printed = _read_until(ours, rb"[$#] ")
        os.write(ours, b"stty size; echo [$X]; exit 9\r")
        printed += _read_until(ours, rb"\[y z\]")
        assert b"31 97" in printed
        assert process.wait(20) == 9
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def _read_until(fd: int, pattern: bytes) -> bytes:
    data = b""
    while not re.search(pattern, data):
        data += os.read(fd, 4096)
    return data


def test_exec_without_a_terminal_passes_bytes(server: Server, sandbox: Sandbox) -> None:
    data = bytes(range(256))
    done = server.thaw(
        "exec", "-i", "--env", "X=y", sandbox.id, "--", "sh", "-c", "cat; exit ${#X}", input=data
    )
    assert (done.stdout, done.returncode) == (data, 1)


def test_exec_without_a_terminal_shows_output_as_it_comes_and_ends_with_us(
    server: Server, sandbox: Sandbox
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "thawbox.cli.main", "exec", sandbox.id, "--"),
            *("sh", "-c", "echo $$; exec sleep 600"),
        ],
        env={**os.environ, "THAWBOX_STATE": str(server.state), "THAWBOX_URL": server.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert sandbox.run(f"kill -0 {pid}")["exit_code"] == 0
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert sandbox.run(f"for i in $(seq 200); do kill -0 {pid} || exit 0; sleep 0.05; done; exit 1")[
        "success"
    ]
