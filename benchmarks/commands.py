"""Commands and code in a sandbox that runs, over HTTP, beside the interpreter that a shell would start for them.

true: POST /commands/run `true`, one at a time and 16 at once. print: POST /execute `print(1)`. pandas: POST /execute
of an import and a describe(). new interpreter: the same code by `python3 -c` in POST /commands/run.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
from bench import claims, machine, options
from bench.figures import Aim, Report, Series, Table, gather, ratio
from bench.server import Server, running

WARM_UP = 5
AT_ONCE = 16
TRUE_MS = 13.0
TRUE_AT_ONCE_P95_MS = 150.0
PRINT_MS = 25.0
PANDAS = "import pandas as pd\nprint(pd.DataFrame({'a': range(1000)}).describe())"
RECIPE: dict[str, Any] = {
    "alias": "bench-commands",
    "update": True,
    "cpu": 2,
    "memory": 1024,
    "diskGB": 2,
    "steps": [{"type": "from", "image": "debian:12"}, {"type": "apt", "packages": ["python3"]}],
}

Body = dict[str, Any]


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=200, help="samples of each (default 200)")
    parser.add_argument("--template", help="measure in this template instead of a debian:12 with python3")
    arguments = options.parse(parser)
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        name = arguments.template
        if name is None:
            server.build(RECIPE)
            name = RECIPE["alias"]
        series, notes = asyncio.run(_measure(server, name, arguments.n))
    options.finish(_report(facts, series, notes, arguments.n, arguments.url), arguments.json)


async def _measure(server: Server, template: str, n: int) -> tuple[dict[str, Series], list[str]]:
    made = server.api.post("/v1/sandboxes", json={"template_name": template})
    if made.status_code != 201:
        raise SystemExit(f"create: {made.status_code} {made.text}")
    sandbox = made.json()
    token = {"Authorization": f"Bearer {sandbox['auth_token']}"}
    try:
        async with aiohttp.ClientSession(
            sandbox["public_host"].rstrip("/") + "/",
            headers=token,
            connector=aiohttp.TCPConnector(limit=AT_ONCE),
            timeout=aiohttp.ClientTimeout(total=60),
        ) as client:
            return await _series(client, n)
    finally:
        server.api.delete(f"/v1/sandboxes/{sandbox['id']}")


async def _series(client: aiohttp.ClientSession, n: int) -> tuple[dict[str, Series], list[str]]:
    requests: dict[str, tuple[str, Body]] = {
        "true": ("/commands/run", {"command": "true"}),
        "true, argv": ("/commands/run", {"command": "true", "args": []}),
        "print": ("/execute", {"code": "print(1)"}),
        "print, new interpreter": ("/commands/run", {"command": "python3", "args": ["-c", "print(1)"]}),
    }
    notes = []
    if (await _once(client, "/commands/run", {"command": "python3", "args": ["-c", PANDAS]}))[1] == 0:
        requests["pandas"] = ("/execute", {"code": PANDAS})
        requests["pandas, new interpreter"] = (
            "/commands/run",
            {"command": "python3", "args": ["-c", PANDAS]},
        )
    else:
        notes.append("pandas is not measured: the template lacks it. Name one that has it with --template.")
    times: dict[str, list[float | Exception]] = {name: [] for name in requests}
    inside: dict[str, list[float | Exception]] = {name: [] for name in requests}
    for path, body in requests.values():
        for _ in range(WARM_UP):
            await _once(client, path, body)
    for at in range(n):
        # Turn and turn about, so that whatever else the machine does meets all alike.
        for name, (path, body) in requests.items():
            if name.startswith("pandas") and at >= n // 10:
                continue
            took, code, seconds = await _once(client, path, body)
            times[name].append(took if code == 0 else RuntimeError(f"{name}: exit code {code}"))
            inside[name].append(seconds * 1000)
    together: list[float | Exception] = []
    for _ in range(max(1, n // AT_ONCE)):
        batch = await asyncio.gather(*(_once(client, *requests["true"]) for _ in range(AT_ONCE)))
        together += [took for took, _, _ in batch]
    found = {name: gather(name, "ms", samples) for name, samples in times.items()}
    found |= {f"{name}: inside": gather(f"{name}: inside", "ms", samples) for name, samples in inside.items()}
    found["at once"] = gather(f"true, {AT_ONCE} at once", "ms", together)
    return found, notes


async def _once(client: aiohttp.ClientSession, path: str, body: Body) -> tuple[float, int, float]:
    """Milliseconds, exit code, and the seconds inside."""
    began = time.perf_counter()
    status, answer = await claims.answer(client.post(path.lstrip("/"), json=body))
    took = (time.perf_counter() - began) * 1000
    if status != 200:
        raise RuntimeError(f"{path}: {status} {answer!r}")
    said = json.loads(answer)
    return took, said["exit_code"], said["execution_time"]


def _report(
    facts: dict[str, Any], series: dict[str, Series], notes: list[str], n: int, url: str | None
) -> Report:
    ratios = [
        ratio(f"{name} / new interpreter", series[name], series[f"{name}, new interpreter"])
        for name in ("print", "pandas")
        if name in series
    ]
    whole = [one for name, one in series.items() if not name.endswith(": inside")]
    inner = [one for name, one in series.items() if name.endswith(": inside")]
    at_once = series["at once"].percentile(95)
    return Report(
        benchmark="commands",
        method=(
            "One sandbox that runs, HTTP connections kept open, requests take turns.",
            f"Warm-up: {WARM_UP} uncounted requests of each. pandas: a tenth of the samples.",
            "inside: from fork to reaped, as the agent sees it.",
            "The client shares the cores with server and sandbox.",
            *notes,
        ),
        machine=facts,
        arguments={"n": n, "own server": url is None},
        ratios=tuple(ratios),
        aims=(
            Aim(what="true, one at a time, median", value=series["true"].median, limit=TRUE_MS, unit="ms"),
            Aim(
                what=f"true, {AT_ONCE} at once, p95",
                value=at_once,
                limit=TRUE_AT_ONCE_P95_MS,
                unit="ms",
            ),
            Aim(what="print(1), median", value=series["print"].median, limit=PRINT_MS, unit="ms"),
        ),
        tables=(
            Table(title="request to answer", series=tuple(whole)),
            Table(title="of that, inside", series=tuple(inner)),
        ),
    )


if __name__ == "__main__":
    main()
