"""Ctrl-C and SIGTERM, sent to the real program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import signals
from tests.support.fake_api import Fake


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "thawbox.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        preexec_fn=signals.heard,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_deletes_its_sandbox(logged_in: Fake, number: signal.Signals, status: int) -> None:
    logged_in.hang = threading.Event()
    process = start("run", "hello", "--", "sleep", "inf")
    assert logged_in.running.wait(30)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == status
    assert not logged_in.sandboxes
    assert logged_in.left.wait(10)  # which ends the command, also if the sandbox stays


def test_output_comes_while_the_command_runs_and_input_may_stay_open(logged_in: Fake) -> None:
    logged_in.hang = threading.Event()
    logged_in.output = [("stdout", b"begun\n"), ("stderr", b"warned\n")]
    logged_in.sandboxes["s"] = {"id": "s", "public_host": logged_in.url, "status": "running"}
    process = start("exec", "s", "--", "tail", "-f", "log")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    assert process.stderr.readline() == "warned\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert logged_in.left.wait(10)
    assert list(logged_in.sandboxes) == ["s"]


def test_an_interrupted_build_goes_on_and_says_how_to_cancel_it(logged_in: Fake, tmp_path: Path) -> None:
    logged_in.build_script = [("one\n", "building")]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: demo\nsteps: []\n")
    process = start("build", str(recipe))
    assert logged_in.polled.wait(30)
    process.send_signal(signal.SIGINT)
    _out, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "goes on" in said
    assert "thaw templates demo --delete" in said
    assert not [request for request in logged_in.seen if request.method == "DELETE"]
