"""Files of a sandbox that runs, over HTTP: one large file up and down, many small ones, and their listing.

up: POST /files/upload. down: GET /files/download. write: POST /files/write of 100 bytes, on one connection. list:
GET /files/list of the folder that holds all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
from bench import machine, options
from bench.figures import Aim, Report, Series, Table, gather
from bench.server import Server, running

MB = 1024 * 1024
AIM_MB_PER_S = 300
SMALL = "x" * 100
BOUNDARY = "thawbox-benchmark-boundary"
RECIPE: dict[str, Any] = {
    "alias": "bench-files",
    "update": True,
    "cpu": 2,
    "memory": 1024,
    "diskGB": 2,
    "steps": [{"type": "from", "image": "debian:12"}],
}


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=10, help="times up and down (default 10)")
    parser.add_argument("--size", type=int, default=100, metavar="MB", help="of the file (default 100)")
    parser.add_argument("--small", type=int, default=10_000, help="how many small files (default 10000)")
    arguments = options.parse(parser)
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        server.build(RECIPE)
        series = _measure(server, arguments.n, arguments.size, arguments.small)
    report = _report(facts, series, arguments.n, arguments.size, arguments.small, arguments.url)
    options.finish(report, arguments.json)


def _measure(server: Server, n: int, size: int, small: int) -> dict[str, Series]:
    made = server.api.post("/v1/sandboxes", json={"template_name": RECIPE["alias"]})
    if made.status_code != 201:
        raise SystemExit(f"create: {made.status_code} {made.text}")
    sandbox = made.json()
    token = {"Authorization": f"Bearer {sandbox['auth_token']}"}
    try:
        with httpx.Client(
            base_url=sandbox["public_host"], headers=token, timeout=300, trust_env=False
        ) as client:
            ups, downs = [], []
            block = os.urandom(MB)
            for _ in range(n + 1):
                ups.append(_up(client, block, size))
                downs.append(_down(client, size))
            writes = [_write(client, at) for at in range(small)]
            lists = [_list(client, small) for _ in range(n)]
    finally:
        server.api.delete(f"/v1/sandboxes/{sandbox['id']}")
    return {
        "up": gather("up", "ms", ups[1:]),
        "down": gather("down", "ms", downs[1:]),
        "write": gather("write", "ms", writes),
        "list": gather(f"list of {small}", "ms", lists),
    }


def _up(client: httpx.Client, block: bytes, size: int) -> float:
    def body() -> Iterator[bytes]:
        for name, rest in (("path", "\r\n\r\n/large\r\n"), ("file", '; filename="large"\r\n\r\n')):
            yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{rest}'.encode()
        for _ in range(size):
            yield block
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    began = time.perf_counter()
    answer = client.post("/files/upload", content=body(), headers=headers)
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != 200 or answer.json()["size"] != size * MB:
        raise RuntimeError(f"upload: {answer.status_code} {answer.text}")
    return took


def _down(client: httpx.Client, size: int) -> float:
    began = time.perf_counter()
    with client.stream("GET", "/files/download", params={"path": "/large"}) as answer:
        received = sum(len(chunk) for chunk in answer.iter_raw())
    if received != size * MB:
        raise RuntimeError(f"download: {answer.status_code}, {received} bytes")
    return (time.perf_counter() - began) * 1000


def _write(client: httpx.Client, at: int) -> float:
    began = time.perf_counter()
    client.post("/files/write", json={"path": f"/many/{at}", "content": SMALL}).raise_for_status()
    return (time.perf_counter() - began) * 1000


def _list(client: httpx.Client, small: int) -> float:
    began = time.perf_counter()
    count = client.get("/files/list", params={"path": "/many"}).raise_for_status().json()["count"]
    if count != small:
        raise RuntimeError(f"list: {count} instead of {small}")
    return (time.perf_counter() - began) * 1000


def _report(
    facts: dict[str, Any], series: dict[str, Series], n: int, size: int, small: int, url: str | None
) -> Report:
    limit = size / AIM_MB_PER_S * 1000
    return Report(
        benchmark="files",
        method=(
            f"One sandbox that runs, one connection. The large file has {size} MB and is overwritten each time.",
            "Warm-up: one uncounted upload and download.",
            "The client shares the cores with server and sandbox.",
        ),
        machine=facts,
        arguments={"n": n, "size": size, "small": small, "own server": url is None},
        ratios=(),
        aims=tuple(
            Aim(
                what=f"{size} MB {way}, median",
                value=series[way].median,
                limit=limit,
                unit="ms",
                formula=f"{AIM_MB_PER_S} MB/s",
            )
            for way in ("up", "down")
        ),
        tables=(
            Table(title=f"{size} MB", series=(series["up"], series["down"])),
            Table(title="small files", series=(series["write"], series["list"])),
        ),
    )


if __name__ == "__main__":
    main()
