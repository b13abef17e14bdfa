"""The template ``code-interpreter`` and code that runs in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.system.server import Sandbox, Server

NAME = "code-interpreter"
DRAW = (
    "import random, uuid, numpy\n"
    "print(random.random(), numpy.random.random(), uuid.uuid4(), uuid.uuid1(), sep='\\n')"
)


@pytest.fixture(scope="module")
def built(server: Server) -> Server:
    """A server that has it; building it takes a minute, so all tests share it."""
    done = server.thaw("catalog", "build", NAME, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["status"] == "active"
    return server


def post(sandbox: Sandbox, path: str, code: str, **body: Any) -> dict[str, Any]:
    answer = sandbox.gateway.post(path, json={"code": code, **body}, timeout=120)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


def cell(sandbox: Sandbox, code: str, **body: Any) -> dict[str, Any]:
    return post(sandbox, "/execute/ipython", code, **body)
