"""``thaw pause``, ``resume``, ``stop``, ``start``, ``fork`` and ``snapshot``."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import Thaw
from tests.support.fake_api import Fake, add


@pytest.mark.parametrize(
    ("verb", "status"),
    [("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running")],
)
def test_each_that_can_be_changed_is(logged_in: Fake, thaw: Thaw, verb: str, status: str) -> None:
    add(logged_in, 2)
    result = thaw(verb, "id0", "gone", "id1")
    assert result.exit_code == 1
    assert result.stdout.split() == ["id0", "id1"]
    assert "gone: Sandbox not found." in result.stderr
    assert [sandbox["status"] for sandbox in logged_in.sandboxes.values()] == [status, status]
    assert [line.split()[2] for line in thaw("ps").stdout.splitlines()[1:]] == [status, status]
    assert thaw(verb).exit_code == 2


def test_fork_prints_the_copies(logged_in: Fake, thaw: Thaw) -> None:
    add(logged_in, 1)
    assert thaw("fork", "id0", "--count", "3", "--env", "A=b", "--timeout", "60").stdout.split() == [
        "copy0",
        "copy1",
        "copy2",
    ]
    (request,) = logged_in.requests("POST", "/v1/sandboxes/id0/fork")
    assert request.json == {"count": 3, "env_vars": {"A": "b"}, "timeout_seconds": 60}
    assert json.loads(thaw("fork", "id0", "--json").stdout) == [{"id": "copy0"}]
    assert thaw("fork", "id0", "--count", "17").exit_code == 2


def test_snapshot_prints_the_template(logged_in: Fake, thaw: Thaw) -> None:
    add(logged_in, 1)
    assert thaw("snapshot", "id0", "warm", "--description", "d").stdout == "warm\n"
    (request,) = logged_in.requests("POST", "/v1/sandboxes/id0/snapshot")
    assert request.json == {"name": "warm", "description": "d"}
