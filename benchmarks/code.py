"""The ready-made template code-interpreter: what its warm interpreters and its kernel save, and what they cost.

pandas: POST /execute of an import and a describe(), by a waiting interpreter; beside it the same code in a new one,
which a variable that is read early makes necessary. print: POST /execute `print(1)`, which imports nothing and so gets
a new one. ipython: POST /execute/ipython `1 + 1`. thaw: POST /v1/sandboxes.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
from bench import machine, options
from bench.figures import Aim, Report, Series, Table, gather, ratio
from bench.server import Server, running

from thawbox.catalog.entries import entries

PAUSE_S = 0.2
"""Between two samples, so that a fork of the next interpreter is not part of either."""
PRINT_MS = 25.0
PANDAS_MS = 80.0
PANDAS = "import pandas as pd\nprint(pd.DataFrame({'a': range(1000)}).describe())"
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pandas": ("/execute", {"code": PANDAS}),
    "pandas, new interpreter": ("/execute", {"code": PANDAS, "env": {"PYTHONX": "1"}}),
    "print": ("/execute", {"code": "print(1)"}),
    "ipython": ("/execute/ipython", {"code": "1 + 1"}),
}


def main() -> None:
    """Entry point."""
    parser = options.parser(__doc__)
    parser.add_argument("-n", type=int, default=30, help="samples of each (default 30)")
    parser.add_argument("--thaws", type=int, default=10, help="sandboxes to create (default 10)")
    arguments = options.parse(parser)
    request = {**entries()[0].request, "name": "bench-code", "update": True}
    with running(arguments.state, arguments.url) as server:
        facts = machine.facts(server.settings)
        template_id, _ = server.build(request)
        snapshot = next(
            (line for line in server.log(template_id).splitlines() if "memory snapshot of" in line), "cached"
        )
        series = _measure(server, arguments.n, arguments.thaws)
    options.finish(_report(facts, series, snapshot, arguments.n), arguments.json)


def _measure(server: Server, n: int, thaws: int) -> dict[str, Series]:
    created: list[float | Exception] = []
    times: dict[str, list[float | Exception]] = {name: [] for name in REQUESTS}
    for at in range(thaws):
        began = time.perf_counter()
        made = server.api.post("/v1/sandboxes", json={"template_name": "bench-code"})
        if made.status_code != 201:
            raise SystemExit(f"create: {made.status_code} {made.text}")
        created.append((time.perf_counter() - began) * 1000)
        sandbox = made.json()
        try:
            if at == 0:
                _commands(sandbox, times, n)
        finally:
            server.api.delete(f"/v1/sandboxes/{sandbox['id']}")
    found = {name: gather(name, "ms", samples) for name, samples in times.items()}
    return {**found, "thaw": gather("thaw", "ms", created)}


def _commands(sandbox: dict[str, Any], times: dict[str, list[float | Exception]], n: int) -> None:
    token = {"Authorization": f"Bearer {sandbox['auth_token']}"}
    with httpx.Client(base_url=sandbox["public_host"], headers=token, timeout=60, trust_env=False) as client:
        for at in range(n + 2):
            for name, (path, body) in REQUESTS.items():
                began = time.perf_counter()
                answer = client.post(path, json=body)
                took = (time.perf_counter() - began) * 1000
                good = answer.status_code == 200 and answer.json()["success"]
                if at >= 2:  # the first ones fetch their pages
                    times[name].append(took if good else RuntimeError(f"{name}: {answer.text[:200]}"))
                time.sleep(PAUSE_S)


def _report(facts: dict[str, Any], series: dict[str, Series], snapshot: str, n: int) -> Report:
    return Report(
        benchmark="code",
        method=(
            f"{n} samples of each, turn and turn about, in one sandbox, after two that do not count.",
            f"Template: {snapshot}.",
        ),
        machine=facts,
        arguments={"n": n},
        ratios=(
            ratio("new interpreter / warm, pandas", series["pandas, new interpreter"], series["pandas"]),
        ),
        aims=(
            Aim(what="pandas, warm, p50", value=series["pandas"].median, limit=PANDAS_MS, unit="ms"),
            Aim(what="print(1), p50", value=series["print"].median, limit=PRINT_MS, unit="ms"),
        ),
        tables=(Table(title="code-interpreter", series=tuple(series.values())),),
    )


if __name__ == "__main__":
    main()
