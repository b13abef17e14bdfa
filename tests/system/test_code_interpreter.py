"""The ready-made template ``code-interpreter``: the catalogue, warm interpreters and the kernel with real runsc."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.sync.client import connect

from .helpers.interpreter import DRAW, NAME, built, cell, post
from .server import Sandbox, Server

__all__ = ["built"]


@pytest.fixture(scope="module")
def sandbox(built: Server) -> Iterator[Sandbox]:
    """One for all tests that leave it as it was."""
    with built.create(NAME, env_vars={"MINE": "yes"}) as made:
        yield made


def test_is_everybodys_and_cannot_be_deleted(built: Server) -> None:
    again = built.thaw("catalog", "build", NAME, "--json")
    assert json.loads(again.stdout)[0]["status"] == "active"
    for client in (built.api, built.client(built.new_key("others"))):
        found = client.get(f"/v1/templates/{NAME}").json()
        assert (found["is_public"], found["is_active"], found["organization_id"]) == (True, True, None)
        assert (found["display_name"], found["popularity_score"]) == ("Code Interpreter", 950)
        assert NAME in [item["name"] for item in client.get("/v1/templates").json()["data"]]
        refused = client.delete(f"/v1/templates/{found['id']}")
        assert (refused.status_code, refused.json()["message"]) == (403, "Cannot delete built-in template")


def test_unknown_entry_is_named(server: Server) -> None:
    done = server.thaw("catalog", "build", "nonsense")
    assert done.returncode == 1
    assert b"The catalogue has no 'nonsense'; it has code-interpreter" in done.stderr


def test_warm_code_is_as_new_code(sandbox: Sandbox) -> None:
    probe = (
        "import os, sys, pandas\n"
        "print(os.getcwd(), sys.argv, sys.path, os.getuid(), os.getppid(), os.getsid(0) == os.getpid(),\n"
        "  {name: value for name, value in os.environ.items() if name != 'PYTHONX'})\n"
        "pandas.DataFrame({'a': [1, 2]})"
    )
    began = time.monotonic()
    warm = post(sandbox, "/execute", probe)
    took = time.monotonic() - began
    began = time.monotonic()
    new = post(sandbox, "/execute", probe, env={"PYTHONX": "1"})
    assert took < (time.monotonic() - began) / 2
    kept = ("stdout", "stderr", "exit_code", "result", "html", "dataframe")
    assert {key: warm[key] for key in kept} == {key: new[key] for key in kept}
    assert "'MINE': 'yes'" in warm["stdout"]


def test_two_sandboxes_draw_different_numbers(built: Server, sandbox: Sandbox) -> None:
    with built.create(NAME) as other:
        for path in ("/execute", "/execute/ipython"):
            drawn = [post(one, path, DRAW)["stdout"].split() for one in (sandbox, other)]
            for mine, theirs in zip(*drawn, strict=True):
                assert mine != theirs, path


def test_kernel_is_there_from_the_start(built: Server) -> None:
    with built.create(NAME) as fresh:
        (session,) = fresh.gateway.get("/jupyter/sessions").json()["sessions"]
        assert session["execution_state"] == "idle"


def test_kernel_remembers(sandbox: Sandbox) -> None:
    assert cell(sandbox, "a = 10\na + 5")["result"] == "15"
    assert cell(sandbox, "%timeit -n1 -r1 a\nprint(a)")["stdout"].endswith("10\n")
    assert cell(sandbox, "import os; os.environ['MINE'], os.getcwd()")["result"] == "('yes', '/workspace')"
    assert cell(sandbox, "os.environ['ONCE']", env={"ONCE": "1"})["result"] == "'1'"
    assert "KeyError" in cell(sandbox, "os.environ['ONCE']")["stderr"]


def test_streamed_cells_are_of_the_same_kernel(sandbox: Sandbox) -> None:
    cell(sandbox, "streamed = 20")
    address = sandbox.record["public_host"].replace("http", "ws", 1) + "/stream/ipython"
    headers = {"Authorization": f"Bearer {sandbox.record['auth_token']}"}
    seen: list[list[dict[str, Any]]] = []
    for code in ("print('out')\nimport sys; print('err', file=sys.stderr)\nstreamed + 1", "1 / 0"):
        with connect(address, additional_headers=headers, proxy=None) as socket:
            socket.send(json.dumps({"type": "execute", "code": code}))
            seen.append([json.loads(frame) for frame in socket])
    good, bad = seen
    assert [frame["data"] for frame in good if frame["type"] == "stdout"] == ["out\n"]
    assert [frame["data"] for frame in good if frame["type"] == "stderr"] == ["err\n"]
    assert [(frame["exit_code"], frame["result"]) for frame in good if frame["type"] == "result"] == [
        (0, "21")
    ]
    assert good[-1] == {"type": "complete", "success": True}
    assert any("ZeroDivisionError" in frame.get("data", "") for frame in bad)
    assert bad[-1] == {"type": "complete", "success": False}


def test_timeout_interrupts_and_keeps_the_state(sandbox: Sandbox) -> None:
    cell(sandbox, "kept = 1")
    done = cell(sandbox, "import time; time.sleep(60)", timeout=1)
    assert (done["success"], done["exit_code"]) == (False, 124)
    assert "timed out after 1 s" in done["stderr"]
    assert cell(sandbox, "kept")["result"] == "1"


def test_input_is_refused(sandbox: Sandbox) -> None:
    assert "does not support input" in cell(sandbox, "input()")["stderr"]


def test_cells_queue(sandbox: Sandbox) -> None:
    cell(sandbox, "import time; order = []")
    with ThreadPoolExecutor(3) as pool:
        codes = [f"order.append({n}); time.sleep(.1); order.append({n})" for n in range(3)]
        assert all(done["success"] for done in pool.map(lambda code: cell(sandbox, code), codes))
    order = json.loads(cell(sandbox, "order")["result"])
    assert [order[at] == order[at + 1] for at in (0, 2, 4)] == [True] * 3


def test_rich_outputs(sandbox: Sandbox) -> None:
    done = cell(sandbox, "import matplotlib.pyplot as plt\nplt.plot([1]); plt.show()")
    assert done["png"].startswith("iVBOR")
    assert "<table" in cell(sandbox, "import pandas; pandas.DataFrame({'a': [1]})")["html"]


def test_crash_restarts_and_says_so(sandbox: Sandbox) -> None:
    cell(sandbox, "gone = 1")
    done = cell(sandbox, "import os; os._exit(3)")
    assert (done["success"], done["exit_code"]) == (False, 1)
    assert "ended with status 3 and was started again: its variables are gone" in done["stderr"]
    assert "NameError" in cell(sandbox, "gone")["stderr"]
    done = cell(sandbox, "import os; os.kill(os.getpid(), 9)")
    assert (done["success"], done["exit_code"]) == (False, 1)
    assert "was killed by signal 9 and was started again: its variables are gone" in done["stderr"]
    assert cell(sandbox, "1 + 1")["result"] == "2"


def test_module_that_is_not_there_fails_the_build(server: Server) -> None:
    steps = [{"type": "from", "image": "debian:12"}]
    build = server.submit(
        {"alias": "cold", "cpu": 1, "memory": 512, "diskGB": 2, "steps": steps, "warm": ["json"]}
    )
    ended = server.wait(build)
    assert ended["status"] == "failed"
    assert "the warm interpreters do not start: python: command not found" in ended["error_message"]
