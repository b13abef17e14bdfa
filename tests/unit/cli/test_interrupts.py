"""Ctrl-C and SIGTERM, sent to the real program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from .fake import Fake


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "thawbox.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
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
