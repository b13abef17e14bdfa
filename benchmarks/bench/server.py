"""The server that is measured: one of our own on a state folder, or one that runs already."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from thawbox.cli.serve import free_port
from thawbox.machine.doctor import server_runs
from thawbox.settings import Settings, load
from thawbox.state import Layout
from thawbox.store import builds, templates
from thawbox.store.builds import BuildRow
from thawbox.store.database import open_database
from thawbox.store.enums import TemplateStatus

_HOST = "127.0.0.1"
_START_S = 120
_STOP_S = 30
_POLL_S = 0.01
_POLL_LATER_S = 0.1
"""Between two looks at a build, in its first second and after it: looking costs the server a few milliseconds."""


class BuildFailed(Exception):
    """A build that should have worked did not; with its message."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server on this machine, and a client with a key for it."""

    settings: Settings
    url: str
    key: str
    api: httpx.Client

    @property
    def layout(self) -> Layout:
        """Its state folder."""
        return Layout(self.settings.state.resolve())

    @property
    def pid(self) -> int:
        """Its process."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.layout.state / "control.sock"))
            peer = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", peer)[0]
        return pid

    def build(self, recipe: dict[str, Any]) -> tuple[str, float]:
        """Build; returns the template's id, and the seconds from the request to ``active``.

        Raises:
            BuildFailed: it failed.
        """
        began = time.perf_counter()
        answer = self.api.post("/v1/templates/build", json=recipe)
        if answer.status_code != 202:
            raise BuildFailed(answer.text)
        build_id = answer.json()["build_id"]
        while True:
            status = self.api.get(f"/v1/templates/build/{build_id}/status").json()
            if status["status"] == TemplateStatus.ACTIVE:
                return str(build_id), time.perf_counter() - began
            if status["status"] == TemplateStatus.FAILED:
                raise BuildFailed(status["error_message"])
            time.sleep(_POLL_S if time.perf_counter() - began < 1 else _POLL_LATER_S)

    def log(self, template_id: str) -> str:
        """The log of the template's newest build."""
        text: str = self.api.get(f"/v1/templates/build/{template_id}/logs").json()["logs"]
        return text


async def newest_build(settings: Settings, template_id: str) -> BuildRow:
    """The record of the template's newest build."""
    database = await open_database(settings)
    try:
        async with database.read() as connection:
            row = await builds.newest(connection, int(template_id))
    finally:
        await database.close()
    assert row is not None
    return row


async def snapshot_key(settings: Settings, template_id: str) -> str:
    """What the template's sandboxes start from now."""
    database = await open_database(settings)
    try:
        async with database.read() as connection:
            row = await templates.get(connection, int(template_id))
    finally:
        await database.close()
    assert row is not None
    assert row.snapshot_key is not None
    return row.snapshot_key


@contextlib.contextmanager
def running(state: Path, url: str | None, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The server at ``url``, which must use ``state``; without ``url`` one of our own that ends with the block.

    ``environment`` are settings (THAWBOX_*) for one of our own.
    """
    settings = load(state=state)
    if url is not None:
        yield _client(settings, url)
        return
    if server_runs(state):
        raise SystemExit(f"A server runs on {state}: give its address with --url, or another --state.")
    settings = settings.model_copy(
        update={"host": _HOST, "port": free_port(_HOST), "gateway_port": free_port(_HOST)}
    )
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = state / "server.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            _argv(settings),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            env={
                **os.environ,
                "THAWBOX_BUILDS_PER_HOUR": "0",
                "THAWBOX_BUILDS_PER_DAY": "0",
                **(environment or {}),
            },
            start_new_session=True,
        )
    try:
        url = f"http://{_HOST}:{settings.port}"
        _wait_until_up(process, url, log)
        server = _client(settings, url)
        try:
            yield server
        finally:
            _delete_sandboxes(server)
    finally:
        process.terminate()
        process.wait(_STOP_S)


def _argv(settings: Settings) -> list[str]:
    return [
        *(sys.executable, "-m", "thawbox.cli.main", "serve"),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--gateway-port", str(settings.gateway_port), "--state", str(settings.state)),
    ]


def _client(settings: Settings, url: str) -> Server:
    key = os.environ.get("THAWBOX_API_KEY") or (settings.state / "local.key").read_text().strip()
    api = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120, trust_env=False)
    return Server(settings, url, key, api)


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S  # a new state folder begins with the self-test
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url + "/health", trust_env=False).is_success:
                return
        time.sleep(0.05)
    raise SystemExit(f"The server does not start:\n{log.read_text(errors='replace')[-2000:]}")


def _delete_sandboxes(server: Server) -> None:
    for sandbox in server.api.get("/v1/sandboxes", params={"limit": 1000}).json().get("data", []):
        server.api.delete(f"/v1/sandboxes/{sandbox['id']}")
