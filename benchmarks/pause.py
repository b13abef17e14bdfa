"""Pause and resume of a sandbox with memory in use, and forks of it, over HTTP.

frozen: POST pause, POST resume, and the first command, while its memory stays. disk: the same with a server that moves
memory to disk at once (pause_memory_s=0). fork: POST fork of one copy, and its first command.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from typing import Any

import httpx
from bench import machine, options
from bench.figures import Report, Table, gather
from bench.server import Server, running

WARM_UP = 1
SIZES_MB = (64, 512)
FORK_MB = 200
RECIPE: dict[str, Any] = {
    "alias": "bench-pause",
    "update": True,
    "cpu": 2,
    "memory": 2048,
    "diskGB": 2,
    "steps": [{"type": "from", "image": "debian:12"}],
}
# Random bytes, because pages of zeros are not written.
FILL = "head -c {size}M /dev/urandom > /dev/shm/filled"

Times = dict[str, list[float | Exception]]


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=20, help="samples of each (default 20)")
    arguments = options.parse(parser)
    tables: list[Table] = []
    ways = {"frozen": "3600", "disk": "0"} if arguments.url is None else {"as that server is set": None}
    for way, pause_memory_s in ways.items():
        if pause_memory_s is not None:
            os.environ["THAWBOX_PAUSE_MEMORY_S"] = pause_memory_s
        with running(arguments.state, arguments.url) as server:
            facts = machine.facts(server.settings)
            server.build(RECIPE)
            for size in SIZES_MB:
                times = _measure(server, size, arguments.n, _pause_and_resume)
                tables.append(_table(f"{way}, {size} MB in use", times))
            if way != "disk":
                times = _measure(server, FORK_MB, arguments.n, _fork)
                tables.append(_table(f"fork, {FORK_MB} MB in use", times))
    report = Report(
        benchmark="pause",
        method=(
            f"Template: debian:12, 2 cores. The sandbox has random bytes in /dev/shm. {WARM_UP} uncounted attempt.",
            "frozen: memory stays. disk: pause_memory_s is 0, and pause includes writing it through to the disk.",
            "The first command is `true`, after the state has been answered.",
            "The client shares the cores with server and sandboxes.",
        ),
        machine=facts,
        arguments={"n": arguments.n, "own server": arguments.url is None},
        ratios=(),
        aims=(),
        tables=tuple(tables),
    )
    options.finish(report, arguments.json)


def _table(title: str, times: Times) -> Table:
    return Table(title=title, series=tuple(gather(name, "ms", found) for name, found in times.items()))


def _measure(server: Server, size_mb: int, n: int, once: Any) -> Times:
    made = _ask(server, "/v1/sandboxes", template_name=RECIPE["alias"])
    times: Times = defaultdict(list)
    try:
        _run(made, FILL.format(size=size_mb))
        for number in range(WARM_UP + n):
            laps = once(server, made)
            if number >= WARM_UP:
                for name, took in laps.items():
                    times[name].append(took)
    finally:
        _delete(server, made)
    return times


def _pause_and_resume(server: Server, sandbox: dict[str, Any]) -> dict[str, float]:
    began = time.perf_counter()
    _ask(server, f"/v1/sandboxes/{sandbox['id']}/pause")
    paused = time.perf_counter()
    _ask(server, f"/v1/sandboxes/{sandbox['id']}/resume")
    resumed = time.perf_counter()
    _run(sandbox, "true")
    ended = time.perf_counter()
    return {
        "pause": (paused - began) * 1000,
        "resume": (resumed - paused) * 1000,
        "first command": (ended - resumed) * 1000,
    }


def _fork(server: Server, sandbox: dict[str, Any]) -> dict[str, float]:
    began = time.perf_counter()
    (copy,) = _ask(server, f"/v1/sandboxes/{sandbox['id']}/fork", count=1)["data"]
    forked = time.perf_counter()
    try:
        _run(copy, "true")
        ended = time.perf_counter()
    finally:
        _delete(server, copy)
    return {"fork": (forked - began) * 1000, "first command": (ended - forked) * 1000}


def _ask(server: Server, path: str, **body: Any) -> dict[str, Any]:
    answer = server.api.post(path, json=body or None, timeout=120)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _run(sandbox: dict[str, Any], line: str) -> None:
    answer = httpx.post(
        f"{sandbox['public_host']}/commands/run",
        headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
        json={"command": line, "timeout": 120},
        timeout=180,
    )
    if answer.status_code != 200 or answer.json()["exit_code"] != 0:
        raise RuntimeError(f"{line}: {answer.status_code} {answer.text}")


def _delete(server: Server, sandbox: dict[str, Any]) -> None:
    server.api.delete(f"/v1/sandboxes/{sandbox['id']}", timeout=120).raise_for_status()


if __name__ == "__main__":
    main()
