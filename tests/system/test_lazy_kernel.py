"""The kernel of a template without ``kernel: true``: the first cell starts it, in the sandbox's environment."""

from __future__ import annotations

from typing import Any

from .server import Sandbox, Server

SHOWN = "import os, sys; [os.environ.get('MINE'), os.environ.get('OTHER'), '/of-template' in sys.path]"


def cell(sandbox: Sandbox, code: str) -> Any:
    answer = sandbox.gateway.post("/execute/ipython", json={"code": code})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_started_by_a_cell_and_saved(server: Server) -> None:
    server.build(
        {
            "alias": "lazy-kernel",
            "cpu": 1,
            "memory": 512,
            "diskGB": 2,
            "steps": [
                {"type": "from", "image": "python:3.11"},
                {"type": "run", "command": "pip3 install ipykernel"},
                {"type": "env", "key": "PYTHONPATH", "value": "/of-template"},
            ],
        }
    )
    with server.create("lazy-kernel", env_vars={"MINE": "secret"}) as source:
        assert cell(source, SHOWN)["result"] == "['secret', None, True]"
        assert "its variables are gone" in cell(source, "os.kill(os.getpid(), 9)")["stderr"]
        assert cell(source, SHOWN)["result"] == "['secret', None, True]"
        assert source.gateway.delete("/env/MINE").status_code == 200
        assert cell(source, SHOWN)["result"] == "[None, None, True]"
        assert source.gateway.patch("/env", json={"env_vars": {"MINE": "secret"}}).status_code == 200
        assert cell(source, SHOWN)["result"] == "['secret', None, True]"
        saved = server.api.post(f"/v1/sandboxes/{source.id}/snapshot", json={"name": "lazy-saved"})
        assert saved.status_code == 201, saved.text
    try:
        with server.create("lazy-saved", env_vars={"OTHER": "new"}) as thawed:
            assert cell(thawed, SHOWN)["result"] == "[None, 'new', True]"
    finally:
        assert server.api.delete("/v1/templates/lazy-saved").status_code == 200
