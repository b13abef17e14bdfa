"""Verbs of a sandbox's life, and a program inside whose counting shows that it lives."""

from __future__ import annotations

from tests.system.server import Sandbox, Server

from .waiting import wait_for

COUNTER = (
    "nohup sh -c 'n=0; while :; do n=$((n+1)); echo $n >> /var/count; sleep 0.05; done' >/dev/null 2>&1 &"
)
LAST = "tail -n 1 /var/count"


def ask(
    server: Server, sandbox: Sandbox, verb: str, expected: int = 200, **body: object
) -> dict[str, object]:
    answer = server.api.post(f"/v1/sandboxes/{sandbox.id}/{verb}", json=body or None)
    assert answer.status_code == expected, answer.text
    record: dict[str, object] = answer.json()
    return record


def record_of(server: Server, sandbox: Sandbox) -> dict[str, object]:
    record: dict[str, object] = server.api.get(f"/v1/sandboxes/{sandbox.id}").json()
    return record


def containers(server: Server) -> list[str]:
    return [path.name for path in (server.state / "run" / "bundles").iterdir()]


def grows(sandbox: Sandbox) -> int:
    """The counter's value; fails if it stands still."""
    before = int(sandbox.out(LAST))
    wait_for(lambda: int(sandbox.out(LAST)) > before, "the counter goes on")
    return before
