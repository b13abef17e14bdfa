"""Starting, asking, killing and removing a Thawbox server as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

READY_S = 60
BUILD_S = 600


class Server:
    """A ``thaw serve`` process, and an API client with its local key.

    As a context manager it starts at the beginning and is removed with everything at the end.
    """

    def __init__(self, state: Path, **settings: str) -> None:
        self.state = state
        self.port, self.gateway_port = _free_port(), _free_port()
        self.settings = {
            "THAWBOX_BUILDS_PER_HOUR": "0",
            "THAWBOX_BUILDS_PER_DAY": "0",
            "THAWBOX_LOG_JSON": "true",
            **{f"THAWBOX_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client(timeout=120)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        """Base of the control plane."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.state.with_name(self.state.name + ".server.log")

    def thaw(self, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
        """Run the command line client against this server."""
        return subprocess.run(
            [sys.executable, "-m", "thawbox.cli.main", *arguments],
            env={**os.environ, **self.settings, "THAWBOX_STATE": str(self.state), "THAWBOX_URL": self.url},
            capture_output=True,
            timeout=BUILD_S,
            check=False,
            **kwargs,
        )

    def start(self) -> None:
        """Start, and return when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "thawbox.cli.main",
                    "serve",
                    "--port",
                    str(self.port),
                    "--gateway-port",
                    str(self.gateway_port),
                    "--state",
                    str(self.state),
                ],
                env={**os.environ, **self.settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S
        while True:
            try:
                if httpx.get(self.url + "/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        self.api = self.client((self.state / "local.key").read_text().strip())

    def client(self, key: str) -> httpx.Client:
        """An API client with this key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=120)

    def new_key(self, organization: str) -> str:
        """A key of another organisation."""
        done = self.thaw("keys", "create", "--org", organization)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def stop(self) -> None:
        """Stop as Ctrl-C would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()[-4000:]

    def kill(self) -> None:
        """Stop as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Delete all sandboxes, stop, and take the state folder away."""
        if self.process is not None and self.process.poll() is None:
            for sandbox in self.api.get("/v1/sandboxes").json().get("data", []):
                self.api.delete(f"/v1/sandboxes/{sandbox['id']}")
            self.stop()
        for mount in _mounts_below(self.state):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.state, ignore_errors=True)

    def submit(self, recipe: dict[str, Any], *, client: httpx.Client | None = None) -> str:
        """Ask for a build; returns its id."""
        answer = (client or self.api).post("/v1/templates/build", json=recipe)
        assert answer.status_code == 202, answer.text
        build_id: str = answer.json()["build_id"]
        return build_id

    def wait(self, build_id: str, *, client: httpx.Client | None = None) -> dict[str, Any]:
        """The build's status when it has ended."""
        deadline = time.monotonic() + BUILD_S
        while time.monotonic() < deadline:
            status: dict[str, Any] = (client or self.api).get(f"/v1/templates/build/{build_id}/status").json()
            if status["status"] in ("active", "failed"):
                return status
            time.sleep(0.05)
        raise AssertionError(f"build {build_id} did not end: {status}")

    def log_of(self, build_id: str) -> str:
        """The build's whole log."""
        text: str = self.api.get(f"/v1/templates/build/{build_id}/logs").json()["logs"]
        return text

    def build(self, recipe: dict[str, Any]) -> str:
        """Build; returns the id. Fails the test if the build fails."""
        build_id = self.submit(recipe)
        status = self.wait(build_id)
        assert status["status"] == "active", json.dumps(status) + "\n" + self.log_of(build_id)
        return build_id

    def create(self, template: str, **fields: Any) -> Sandbox:
        """A sandbox of the template."""
        answer = self.api.post("/v1/sandboxes", json={"template_name": template, **fields})
        assert answer.status_code == 201, answer.text
        return Sandbox(self, answer.json())


class Sandbox:
    """A running sandbox, deleted at the end of a ``with`` block."""

    def __init__(self, server: Server, record: dict[str, Any]) -> None:
        self.server, self.record = server, record
        self.id: str = record["id"]
        self.gateway = httpx.Client(
            base_url=record["public_host"],
            headers={"Authorization": f"Bearer {record['auth_token']}"},
            timeout=60,
        )

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.gateway.close()
        self.server.api.delete(f"/v1/sandboxes/{self.id}")

    def run(self, line: str, **fields: Any) -> dict[str, Any]:
        """Run a shell line; the answer of /commands/run."""
        answer = self.gateway.post("/commands/run", json={"command": line, **fields})
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def out(self, line: str, **fields: Any) -> str:
        """Standard output of a shell line that must succeed, stripped."""
        result = self.run(line, **fields)
        assert result["exit_code"] == 0, result
        text: str = result["stdout"]
        return text.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _mounts_below(folder: Path) -> list[str]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if target.startswith(f"{folder}/"):
            found.append(target)
    return sorted(found, reverse=True)
