"""The examples of the API's public pages, word for word, run by a shell with curl and jq.

Replaced are the host, the key, and what no machine without a registry can deliver (``REPLACED``).
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from .helpers.examples import TEMPLATE, Shell, needs_curl_and_jq, same_shape, shell

__all__ = ["shell"]

pytestmark = needs_curl_and_jq


def built(shell: Shell, answer: dict[str, Any]) -> dict[str, Any]:
    """The build's status when it has ended well."""
    with shell.server.client(shell.key) as client:
        status = shell.server.wait(answer["build_id"], client=client)
        log = client.get(answer["logs_url"]).json()["logs"]
    assert status["status"] == "active", log
    return status


# Build template


DATASCIENCE = r"""
curl -X POST https://api.hopx.dev/v1/templates/build \
  -H "Authorization: Bearer hopx_live_..." \
  -H "Content-Type: application/json" \
  -d '{
    "alias": "python-datascience",
    "cpu": 4,
    "memory": 4096,
    "diskGB": 20,
    "steps": [
      {"type": "from", "image": "ubuntu:22.04"},
      {"type": "apt", "packages": ["python3", "python3-pip", "build-essential"]},
      {"type": "run", "command": "pip3 install numpy pandas matplotlib scikit-learn jupyter"}
    ]
  }'
"""

WEBAPP = r"""
curl -X POST https://api.hopx.dev/v1/templates/build \
  -H "Authorization: Bearer hopx_live_..." \
  -H "Content-Type: application/json" \
  -d '{
  "alias": "nodejs-webapp",
  "cpu": 2,
  "memory": 2048,
  "diskGB": 10,
  "steps": [
    {"type": "from", "image": "node:20"},
    {"type": "run", "command": "npm install -g pm2 typescript ts-node"},
    {"type": "workdir", "path": "/workspace"},
    {"type": "env", "key": "NODE_ENV", "value": "production"}
  ]
}'
"""

RUNS = {
    "python-datascience": (
        DATASCIENCE,
        "gcc --version >&2; python3 -c 'import numpy; print(numpy.arange(4).sum())'",
        "6",
    ),
    "nodejs-webapp": (
        WEBAPP,
        "tsc --version >&2 && node -p process.env.NODE_ENV && pwd",
        "production\n/workspace",
    ),
}
SIZES = {
    "python-datascience": {"vcpu": 4, "memory_mb": 4096, "disk_gb": 20},
    "nodejs-webapp": {"vcpu": 2, "memory_mb": 2048, "disk_gb": 10},
}


@pytest.mark.parametrize("name", RUNS)
def test_build_example(shell: Shell, name: str) -> None:
    example, command, output = RUNS[name]
    status, answer = shell.ask(example)
    build = answer["build_id"]
    assert status == 202
    assert answer == {
        "build_id": build,
        "template_id": build,
        "status": "building",
        "logs_url": f"/v1/templates/build/{build}/logs",
        "request_id": answer["request_id"],
    }
    assert isinstance(build, str)
    built(shell, answer)
    with shell.server.client(shell.key) as client:
        made = client.post("/v1/sandboxes", json={"template_name": name}).json()
        try:
            ran = client.post(
                made["public_host"] + "/commands/run",
                headers={"Authorization": f"Bearer {made['auth_token']}"},
                json={"command": command},
            ).json()
            assert (ran["exit_code"], ran["stdout"].strip()) == (0, output), ran
        finally:
            client.delete(f"/v1/sandboxes/{made['id']}")
    resources = shell.ask(GET.replace("code-interpreter", name))[1]["default_resources"]
    assert resources == SIZES[name]


BUILD = r"""
curl -X POST https://api.hopx.dev/v1/templates/build \
  -H "Authorization: Bearer hopx_live_..." \
  -H "Content-Type: application/json" \
  -d '{"alias": "my-template", "steps": [STEPS]}'
"""


def test_build_errors(shell: Shell) -> None:
    status, answer = shell.ask(BUILD.replace("STEPS", '{"type": "run", "command": "true"}'))
    assert (status, answer["error"]) == (400, "Invalid template definition")
    assert answer["message"] == "Template must start with a FROM step"
    for wrong in ("hopx_live_" + "A" * 12 + "." + "B" * 43, "nonsense"):
        status, answer = Shell(shell.server, wrong).ask(BUILD.replace("STEPS", ""))
        assert (status, answer["error"], answer["message"]) == (401, "Unauthorized", "Invalid API key")
    good = BUILD.replace("STEPS", '{"type": "from", "image": "ubuntu:22.04"}')
    status, answer = shell.ask(good)
    assert status == 202
    built(shell, answer)
    status, answer = shell.ask(good)
    assert (status, answer["error"]) == (409, "Template alias already exists")
    assert answer["message"] == "A template with alias 'my-template' already exists"


# Get template


GET = r"""
curl https://api.hopx.dev/v1/templates/code-interpreter \
  -H "Authorization: Bearer $HOPX_API_KEY"
"""


def test_get_by_name_and_by_id(shell: Shell) -> None:
    status, by_name = shell.ask(GET)
    assert status == 200
    same_shape(TEMPLATE, by_name)
    assert (by_name["name"], by_name["status"], by_name["is_active"]) == ("code-interpreter", "active", True)
    assert by_name["default_resources"] == TEMPLATE["default_resources"]
    for moment in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z", by_name[moment])
    status, by_id = shell.ask(GET.replace("code-interpreter", by_name["id"]))
    assert status == 200
    assert {**by_id, "request_id": ""} == {**by_name, "request_id": ""}


def test_get_errors(shell: Shell) -> None:
    status, answer = shell.ask(GET.replace("code-interpreter", "no-such-template"))
    assert (status, answer["error"], answer["code"]) == (404, "Template not found", "RESOURCE_NOT_FOUND")
    status, answer = Shell(shell.server, "wrong").ask(GET)
    assert (status, answer["error"]) == (401, "Unauthorized")


def test_get_use_cases(shell: Shell) -> None:
    resources = shell.run(
        r"""
curl https://api.hopx.dev/v1/templates/code-interpreter \
  -H "Authorization: Bearer $HOPX_API_KEY" | \
  jq '.default_resources'
"""
    )
    assert json.loads(resources) == TEMPLATE["default_resources"]
    ready = shell.run(
        r"""
STATUS=$(curl -s https://api.hopx.dev/v1/templates/my-custom-template \
  -H "Authorization: Bearer $HOPX_API_KEY" | jq -r '.status')

if [ "$STATUS" == "active" ]; then
  echo "Template is ready"
else
  echo "Template is not ready: $STATUS"
fi
"""
    )
    assert ready == "Template is ready\n"
    features = shell.run(
        r"""
curl https://api.hopx.dev/v1/templates/code-interpreter \
  -H "Authorization: Bearer $HOPX_API_KEY" | \
  jq '.features[]'
"""
    )
    assert [json.loads(line) for line in features.splitlines()] == shell.ask(GET)[1]["features"]
    compared = shell.run(
        r"""#!/bin/bash
TEMPLATES=("code-interpreter" "python-3.11" "nodejs-18")

for TEMPLATE in "${TEMPLATES[@]}"; do
  echo "=== $TEMPLATE ==="
  curl -s "https://api.hopx.dev/v1/templates/$TEMPLATE" \
    -H "Authorization: Bearer $HOPX_API_KEY" | \
    jq '{name: .name, resources: .default_resources}'
done
"""
    )
    for name in ("code-interpreter", "python-3.11", "nodejs-18"):
        shown = json.dumps({"name": name, "resources": TEMPLATE["default_resources"]}, indent=2)
        assert f"=== {name} ===\n{shown}\n" in compared
