"""Runs the examples of the API's public pages by a shell with curl and jq."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.system.server import Server

from .recipes import BASE

needs_curl_and_jq = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq: scripts/setup --tests"
)

REPLACED = {"ubuntu:22.04": "debian:12"}
if not os.environ.get("THAWBOX_TEST_FULL"):
    REPLACED["pip3 install numpy pandas matplotlib scikit-learn jupyter"] = "pip3 install numpy"
REQUEST_ID = re.compile(r"req_[0-9a-f]{20,24}")


class Shell:
    """Runs an example as a user would who has set ``HOPX_API_KEY``."""

    def __init__(self, server: Server, key: str) -> None:
        self.server, self.key = server, key

    def run(self, example: str) -> str:
        """What the example prints. Fails the test if it fails."""
        for old, new in REPLACED.items():
            example = example.replace(old, new)
        example = example.replace("https://api.hopx.dev", self.server.url).replace("hopx_live_...", self.key)
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail\n{example}"],
            env={"PATH": os.environ["PATH"], "HOPX_API_KEY": self.key, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, example: str) -> tuple[int, dict[str, Any]]:
        """Status and body of an example that is one call of curl."""
        said = self.run(f"curl() {{ command curl -sS -w '\\n%{{http_code}}' \"$@\"; }}\n{example}")
        body, _, status = said.rpartition("\n")
        parsed: dict[str, Any] = json.loads(body)
        assert REQUEST_ID.fullmatch(parsed["request_id"])
        return int(status), parsed


@pytest.fixture(scope="module")
def shell(server: Server) -> Shell:
    """In an organisation of its own, with templates of the names that the pages ask for."""
    shell = Shell(server, server.new_key("seeds"))
    with server.client(shell.key) as client:
        for name in ("code-interpreter", "my-custom-template", "python-3.11", "nodejs-18"):
            body = {"alias": name, "cpu": 2, "memory": 4096, "diskGB": 10, "steps": [BASE]}
            build = server.submit({**body, "update": True}, client=client)
            assert server.wait(build, client=client)["status"] == "active"
    return shell


def same_shape(example: Any, answer: Any, where: str = "") -> None:
    """Every field of the page's example is there, with a value of the same type."""
    assert type(answer) is type(example), (where, answer)
    if isinstance(example, dict):
        assert set(example) <= set(answer), (where, set(example) - set(answer))
        for name, value in example.items():
            same_shape(value, answer[name], f"{where}.{name}")


TEMPLATE: dict[str, Any] = {
    "id": "73",
    "object": "template",
    "name": "code-interpreter",
    "display_name": "Code Interpreter",
    "description": "Pre-built environment",
    "category": "python",
    "language": "python",
    "icon": "python",
    "default_resources": {"vcpu": 2, "memory_mb": 4096, "disk_gb": 10},
    "min_resources": {"vcpu": 1, "memory_mb": 512, "disk_gb": 1},
    "max_resources": {"vcpu": 8, "memory_mb": 16384, "disk_gb": 100},
    "features": ["python"],
    "tags": ["code-execution"],
    "popularity_score": 950,
    "docs_url": "https://docs.hopx.dev/templates/code-interpreter",
    "is_active": True,
    "status": "active",
    "build_id": "build_abc123",
    "is_public": True,
    "created_at": "2025-01-01T00:00:00Z",
    "updated_at": "2025-01-15T00:00:00Z",
    "request_id": "req_abc123",
}
