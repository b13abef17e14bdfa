"""What an idle sandbox costs in memory (PSS), beside a cold-booted one and a plain runsc container; and the server.

Sandboxes are thawed from a plain debian:12 template over HTTP, have run one command, and are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any

import httpx
from bench import machine, options, pss
from bench.figures import Aim, Report, Series, Table, gather, ratio
from bench.local import Local, opened
from bench.server import Server, running

from thawbox.node.cgroups import Cgroup

SANDBOX_LIMIT_MB = 23.0
SERVER_LIMIT_MB = 200.0
RECIPE: dict[str, Any] = {
    "alias": "bench-memory",
    "update": True,
    "cpu": 1,
    "memory": 512,
    "diskGB": 1,
    "steps": [{"type": "from", "image": "debian:12"}],
}

Memory = dict[str, float]
"""kind -> MB"""


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=20, help="sandboxes of each kind, all at once (default 20)")
    parser.add_argument(
        "--settle", type=float, default=10, help="seconds of idleness before measuring (default 10)"
    )
    arguments = options.parse(parser)
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        template_id, _ = server.build(RECIPE)
        before = [_of_server(server)]
        thawed, during = _thawed(server, arguments.n, arguments.settle)
        cold, plain = asyncio.run(_alternatives(server, template_id, arguments.n, arguments.settle))
    report = _report(facts, thawed, cold, plain, before, during, arguments.n, arguments.settle, arguments.url)
    options.finish(report, arguments.json)


def _thawed(
    server: Server, n: int, settle_s: float
) -> tuple[list[Memory | Exception], list[Memory | Exception]]:
    """Memory of each sandbox, and of the server while they live."""
    made: list[str] = []
    failures: list[Memory | Exception] = []
    try:
        for _ in range(n):
            try:
                made.append(_create(server))
            except (httpx.HTTPError, RuntimeError) as error:
                failures.append(error)
        time.sleep(settle_s)
        return [*map(_of_sandbox, made), *failures], [_of_server(server)]
    finally:
        for name in made:
            server.api.delete(f"/v1/sandboxes/{name}")


def _create(server: Server) -> str:
    answer = server.api.post("/v1/sandboxes", json={"template_name": RECIPE["alias"]})
    if answer.status_code != 201:
        raise RuntimeError(f"create: {answer.status_code} {answer.text}")
    sandbox = answer.json()
    ran = httpx.post(
        f"{sandbox['public_host']}/commands/run",
        headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
        json={"command": "true"},
        trust_env=False,
        timeout=60,
    )
    if ran.status_code != 200:
        raise RuntimeError(f"command: {ran.status_code} {ran.text}")
    return str(sandbox["id"])


async def _alternatives(
    server: Server, template_id: str, n: int, settle_s: float
) -> tuple[list[Memory | Exception], list[Memory | Exception]]:
    """Cold-booted sandboxes, then plain runsc containers that sleep."""
    async with opened(server, template_id) as local:
        return await _cold(local, n, settle_s), await _plain(local, n, settle_s)


async def _cold(local: Local, n: int, settle_s: float) -> list[Memory | Exception]:
    async with contextlib.AsyncExitStack() as stack:
        groups = [(await stack.enter_async_context(local.booted())).cgroup for _ in range(n)]
        await asyncio.sleep(settle_s)
        return [_of_group(group) for group in groups]


async def _plain(local: Local, n: int, settle_s: float) -> list[Memory | Exception]:
    async with contextlib.AsyncExitStack() as stack:
        groups = [await stack.enter_async_context(local.sleeping()) for _ in range(n)]
        await asyncio.sleep(settle_s)
        return [_of_group(group) for group in groups]


def _of_sandbox(name: str) -> Memory | Exception:
    try:
        return pss.of_processes(pss.group_of(name).pids())
    except LookupError as error:
        return error


def _of_group(group: Cgroup) -> Memory | Exception:
    try:
        return pss.of_processes(group.pids())
    except LookupError as error:
        return error


def _of_server(server: Server) -> Memory | Exception:
    try:
        return pss.of_processes([server.pid])
    except (LookupError, OSError) as error:
        return error


def _series(name: str, found: Iterable[Memory | Exception]) -> tuple[Series, ...]:
    results = list(found)
    failures = [one for one in results if isinstance(one, Exception)]
    good = [one for one in results if not isinstance(one, Exception)]
    total = gather(name, "MB", [*(one["total"] for one in good), *failures])
    kinds = (gather(f"{name}: {kind}", "MB", [one[kind] for one in good]) for kind in pss.KINDS[1:])
    return (total, *kinds)


def _report(
    facts: dict[str, Any],
    thawed: list[Memory | Exception],
    cold: list[Memory | Exception],
    plain: list[Memory | Exception],
    before: list[Memory | Exception],
    during: list[Memory | Exception],
    n: int,
    settle_s: float,
    url: str | None,
) -> Report:
    sandbox, booted, sleeping = (
        _series("thawed sandbox", thawed),
        _series("cold-booted sandbox", cold),
        _series("plain runsc, sleep", plain),
    )
    server = _series(f"server with {n} sandboxes", during)
    return Report(
        benchmark="memory",
        method=(
            f"Template: debian:12, 1 core, 512 MB. {n} of a kind live at once, one kind after the other; each sandbox "
            f"ran one command, then all were left alone for {settle_s:g} s.",
            "PSS from /proc/PID/smaps_rollup, in MB of 10^6 bytes, over all address spaces of the sandbox (the "
            "runtime's kernel, its stubs, its gofer); a page that several share counts in equal parts.",
            "anon: the runtime's heaps. shmem: the guest's memory. file: mapped files.",
            "Warm-up: the build of the template. The page cache itself is not counted.",
        ),
        machine=facts,
        arguments={"n": n, "settle": settle_s, "own server": url is None},
        ratios=(
            ratio("thawed / cold-booted", sandbox[0], booted[0]),
            ratio("thawed / plain runsc, sleep", sandbox[0], sleeping[0]),
        ),
        aims=(
            Aim(what="idle sandbox", value=sandbox[0].median, limit=SANDBOX_LIMIT_MB, unit="MB"),
            Aim(what="server", value=server[0].median, limit=SERVER_LIMIT_MB, unit="MB"),
        ),
        tables=(
            Table(title="per sandbox", series=(*sandbox, *booted, *sleeping)),
            Table(title="server process", series=(*_series("server without sandboxes", before), *server)),
        ),
    )


if __name__ == "__main__":
    main()
