"""The runsc that scripts/setup builds."""

from __future__ import annotations

from pathlib import Path

from thawbox.node.install import installed_runsc
from thawbox.settings import load

from .server import Server
from .test_build import recipe


def test_no_filter_is_compiled_while_a_sandbox_comes_up(own_server: Server, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    talkative = tmp_path / "runsc"
    talkative.write_text(f'#!/bin/sh\nexec {installed_runsc(load())} --debug --debug-log={logs}/ "$@"\n')
    talkative.chmod(0o755)
    own_server.settings |= {"THAWBOX_RUNSC": str(talkative), "THAWBOX_POOL_MAX": "0"}
    own_server.start()
    own_server.build(recipe("filtered"))
    assert own_server.create("filtered").run("true")["exit_code"] == 0
    lines = [line for log in logs.iterdir() for line in log.read_text().splitlines()]
    loaded = [line for line in lines if "Loaded precompiled seccomp instructions" in line]
    assert any("Platform=" in line for line in loaded), "the sandbox's"
    assert any("LisafsNeeded=" in line for line in loaded), "the gofer's"
    assert not [line for line in lines if "No precompiled program found" in line]
