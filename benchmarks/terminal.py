"""A terminal in a sandbox that runs: until its first prompt, and from a key to its echo.

prompt: from the WebSocket's upgrade to the login shell's prompt. echo: from a typed character to the frame that
shows it.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from bench import machine, options
from bench.figures import Aim, Report, Series, Table, gather
from bench.server import Server, running
from websockets.asyncio.client import ClientConnection, connect

WARM_UP = 5
ECHO_MS = 10.0
RECIPE: dict[str, Any] = {
    "alias": "bench-terminal",
    "update": True,
    "cpu": 2,
    "memory": 512,
    "diskGB": 1,
    "steps": [{"type": "from", "image": "debian:12"}],
}


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=200, help="characters; a tenth as many prompts (default 200)")
    arguments = options.parse(parser)
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        server.build(RECIPE)
        prompt, echo = asyncio.run(_measure(server, arguments.n))
    options.finish(_report(facts, prompt, echo, arguments.n, arguments.url), arguments.json)


async def _measure(server: Server, n: int) -> tuple[Series, Series]:
    made = server.api.post("/v1/sandboxes", json={"template_name": RECIPE["alias"]})
    if made.status_code != 201:
        raise SystemExit(f"create: {made.status_code} {made.text}")
    sandbox = made.json()
    try:
        prompts = [await _session(sandbox, 0) for _ in range(WARM_UP + max(1, n // 10))][WARM_UP:]
        _, echoes = await _session(sandbox, WARM_UP + n)
        return gather("prompt", "ms", [first for first, _ in prompts]), gather("echo", "ms", echoes[WARM_UP:])
    finally:
        server.api.delete(f"/v1/sandboxes/{sandbox['id']}")


async def _session(sandbox: dict[str, Any], keys: int) -> tuple[float, list[float]]:
    """Milliseconds to the first prompt, and of each echo."""
    url = sandbox["public_host"].replace("http", "ws", 1) + "/terminal"
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {sandbox['auth_token']}"}
    async with connect(url, additional_headers=headers, proxy=None, compression=None) as socket:
        await _until(socket, "# ")
        first = (time.perf_counter() - began) * 1000
        echoes = []
        for at in range(keys):
            key = "abcdefghij"[at % 10]
            began = time.perf_counter()
            await socket.send(json.dumps({"type": "input", "data": key}))
            await _until(socket, key)
            echoes.append((time.perf_counter() - began) * 1000)
        return first, echoes


async def _until(socket: ClientConnection, text: str) -> None:
    printed = ""
    async with asyncio.timeout(20):
        while text not in printed:
            printed += json.loads(await socket.recv())["data"]


def _report(facts: dict[str, Any], prompt: Series, echo: Series, n: int, url: str | None) -> Report:
    return Report(
        benchmark="terminal",
        method=(
            "One sandbox that runs. Every prompt is a connection of its own; all keys go through one.",
            f"Warm-up: {WARM_UP} uncounted samples of each.",
            "The client shares the cores with server and sandbox.",
        ),
        machine=facts,
        arguments={"n": n, "own server": url is None},
        ratios=(),
        aims=(Aim(what="echo, median", value=echo.median, limit=ECHO_MS, unit="ms"),),
        tables=(Table(title="terminal", series=(prompt, echo)),),
    )


if __name__ == "__main__":
    main()
