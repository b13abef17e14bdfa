"""Warm interpreters and the kernel over pause, resume, fork and snapshot; and of a template with another user."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import Any

import yaml

from .helpers.interpreter import DRAW, built, cell, post
from .helpers.waiting import wait_for
from .server import Sandbox, Server

__all__ = ["built"]
NAME = "code-interpreter"
PANDAS = (
    "import sys; print('matplotlib' in sys.modules)\n"  # only an interpreter that waited has it here
    "import pandas; print(pandas.Series([2, 3, 5]).sum())"
)


def change(sandbox: Sandbox, verb: str, expected: int = 200, **body: Any) -> dict[str, Any]:
    answer = sandbox.server.api.post(f"/v1/sandboxes/{sandbox.id}/{verb}", json=body or None)
    assert answer.status_code == expected, answer.text
    record: dict[str, Any] = answer.json()
    return record


def ran_warm(sandbox: Sandbox) -> bool:
    """Whether pandas works, and in an interpreter that waited; two wait, so without any delay after a thaw."""
    said = post(sandbox, "/execute", PANDAS)["stdout"].split()
    assert said[1] == "10"
    return bool(said[0] == "True")


def test_paused_resumed_forked_and_saved(built: Server) -> None:
    with built.create(NAME, env_vars={"MINE": "only-for-this-one"}) as source:
        cell(source, "import random, numpy; kept = 41")
        change(source, "pause")
        change(source, "resume")
        assert ran_warm(source)
        assert cell(source, "kept + 1")["result"] == "42"

        change(source, "pause")
        built.stop()  # moves it to disk
        built.start()
        change(source, "resume")
        assert ran_warm(source)
        assert cell(source, "kept + 1")["result"] == "42"

        forks = [Sandbox(built, made) for made in change(source, "fork", 201, count=2)["data"]]
        try:
            for fork in forks:
                assert ran_warm(fork)
                assert cell(fork, "kept + 1")["result"] == "42"
                assert cell(fork, "import os; os.environ['MINE']")["result"] == "'only-for-this-one'"
            drawn = [post(one, "/execute", DRAW)["stdout"].split() for one in (source, *forks)]
            for values in zip(*drawn, strict=True):
                assert len(set(values)) == 3
            wait_for(lambda: ran_warm(forks[0]), "another interpreter waits")
        finally:
            for fork in forks:
                fork.__exit__()

        change(source, "snapshot", 201, name="saved-interpreter")
    try:
        with built.create("saved-interpreter") as thawed:
            assert not ran_warm(thawed)
            assert cell(thawed, "import os; repr(os.environ.get('MINE'))")["result"] == "'None'"
    finally:
        assert built.api.delete("/v1/templates/saved-interpreter").status_code == 200


# A program that has drawn from its generators before the freeze, and draws again when it is asked.
DRAWN_BEFORE = """
import os, random, secrets, ssl, time, uuid
random.random(), ssl.RAND_bytes(8)
open('/tmp/up', 'w').close()
while not os.path.exists('/tmp/ask'):
    time.sleep(0.02)
with open('/tmp/answer', 'w') as answer:
    print(random.random(), ssl.RAND_bytes(8).hex(), secrets.token_hex(8), uuid.uuid4(), file=answer)
os.rename('/tmp/answer', '/tmp/said')
"""
ASK = "touch /tmp/ask; while [ ! -e /tmp/said ]; do sleep 0.02; done; cat /tmp/said"
NEW = "python3 -c 'import random, ssl, uuid; print(random.random(), ssl.RAND_bytes(8).hex(), uuid.uuid4())'"


def test_template_user_and_what_was_random_before_the_freeze(built: Server) -> None:
    entry = yaml.safe_load(files("thawbox.catalog").joinpath(f"{NAME}.yaml").read_text())
    recipe = {
        "alias": "warm-user",
        "cpu": 1,
        "memory": 2048,
        "diskGB": 4,
        "kernel": True,
        "warm": entry["warm"],
        "startCmd": f"exec python3 -c {shlex.quote(DRAWN_BEFORE)}",
        "readyCmd": {"type": "file", "path": "/tmp/up", "timeout": 20000},
        "steps": [
            *entry["steps"],  # in the cache
            {"type": "run", "command": "useradd --create-home me"},
            {"type": "user", "user": "me"},
        ],
    }
    built.build(recipe)
    who = "import getpass, os; print(getpass.getuser(), os.getuid() > 0)"
    with built.create("warm-user") as one, built.create("warm-user") as other:
        assert ran_warm(one)
        assert post(one, "/execute", f"import pandas\n{who}")["stdout"] == "me True\n"
        assert cell(one, who)["stdout"] == "me True\n"

        mine, theirs = (sandbox.out(ASK).split() for sandbox in (one, other))
        assert mine[:2] == theirs[:2]  # state in the program's own memory: random, OpenSSL
        assert mine[2] != theirs[2]  # the kernel's own
        assert mine[3] != theirs[3]
        for mine_new, theirs_new in zip(one.out(NEW).split(), other.out(NEW).split(), strict=True):
            assert mine_new != theirs_new
