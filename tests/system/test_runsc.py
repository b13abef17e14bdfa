"""The runsc that scripts/setup builds."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from thawbox.node.installed import installed_runsc
from thawbox.settings import load

from .helpers.machine import cgroup_folders
from .helpers.recipes import recipe
from .helpers.waiting import wait_for
from .server import Sandbox, Server


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


def test_a_sandbox_that_has_become_idle_gives_memory_back(server: Server) -> None:
    server.build(recipe("idler"))
    with server.create("idler") as sandbox:
        make = "i=0; while [ $i -lt 3000 ]; do : > /tmp/f$i; i=$((i+1)); done"
        assert sandbox.run(f"{make}; find / -xdev > /dev/null 2>&1; rm /tmp/f*")["exit_code"] == 0
        after_work = heaps_mb(server, sandbox)
        wait_for(lambda: heaps_mb(server, sandbox) < after_work - 8, "it has gone back to the machine")
        assert sandbox.out("echo on") == "on"


def heaps_mb(server: Server, sandbox: Sandbox) -> float:
    """Memory of the sandbox's processes besides the guest's own, in MB (10^6 bytes)."""
    found = []
    for pid in (cgroup_folders(server, sandbox)[0] / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            found += re.findall(r"Pss_Anon: +([0-9]+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text())
    return sum(map(int, found)) * 1024 / 1e6
