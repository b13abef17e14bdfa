"""``thaw bench``: measures how fast the running server creates sandboxes, as a client sees it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click
import httpx

from thawbox.util.percentile import percentile

from .client import ApiError, Server, answer, connect, is_loopback
from .failure import FAILED, Failure
from .options import json_option
from .sandboxes import delete_sandbox
from .terminal import console, duration, print_json, print_table

_LIFETIME_S = 600
"""The lifetime of the sandboxes. If this program is killed, they disappear after this time."""
_COMMAND_S = 60
_ANSWER_S = _COMMAND_S + 30
_IDLE_S = 2
_CONNECTIONS = 100
"""The most connections of the client. With more samples at once, the client's own queue would be measured."""
_PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Sample:
    """The times of one sandbox, in seconds from the create request: to its answer, and to the first result."""

    created_s: float
    result_s: float


@click.command(short_help="Measure creating sandboxes on the running server.")
@click.argument("template")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Sandboxes.")
@click.option(
    "--at-once",
    type=click.IntRange(1, _CONNECTIONS),
    default=1,
    show_default=True,
    help="How many at the same time.",
)
@json_option
def bench(template: str, count: int, at_once: int, as_json: bool) -> None:
    """Create N sandboxes of TEMPLATE, run `true` in each, delete it, and print how long creating took.

    This client measures two times from the create request: until its answer, and until the result of the first
    command. It keeps connections open. The times do not include deleting, but each worker deletes its sandbox before
    it takes the next sample. It does not wait for pools to fill up again. Exit status 1 if anything failed.

    \b
    Examples:
      thaw bench hello
      thaw bench hello -n 100 --at-once 4 --json
    """
    samples: list[Sample] = []
    failures: list[str] = []
    began = time.perf_counter()
    with connect() as server, _sandboxes(server) as gateway:
        server.call("GET", f"/v1/templates/{quote(template, safe='')}")
        for result in _results(server, gateway, template, count, at_once):
            if isinstance(result, Sample):
                samples.append(result)
            else:
                failures.append(result)
            if sys.stderr.isatty():
                click.echo(
                    f"\r{len(samples) + len(failures)}/{count}, {len(failures)} failed", err=True, nl=False
                )
    if sys.stderr.isatty():
        click.echo(err=True)
    elapsed = time.perf_counter() - began
    if as_json:
        print_json(_plain(template, at_once, elapsed, samples, failures))
    else:
        _print(elapsed, samples, failures)
    sys.exit(FAILED if failures else 0)


def _sandboxes(server: Server) -> httpx.Client:
    """One HTTP client for all sandboxes, because making one takes longer than a command."""
    # The client closes idle connections before the gateway does, so that it never uses one that is being closed.
    limits = httpx.Limits(
        max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_IDLE_S
    )
    return httpx.Client(timeout=_ANSWER_S, limits=limits, trust_env=not is_loopback(server.url))


def _results(
    server: Server, gateway: httpx.Client, template: str, count: int, at_once: int
) -> Iterator[Sample | str]:
    """For each attempt, as it ends: its sample, or the reason of its failure. After Ctrl-C the attempts under way still
    delete their sandboxes."""
    with ThreadPoolExecutor(at_once, thread_name_prefix="bench") as workers:
        attempts = [workers.submit(_attempt, server, gateway, template) for _ in range(count)]
        try:
            for attempt in as_completed(attempts):
                try:
                    yield attempt.result()
                except Failure as error:
                    yield error.message
                except httpx.HTTPError as error:
                    yield str(error) or type(error).__name__
        finally:
            for attempt in attempts:
                attempt.cancel()


def _attempt(server: Server, gateway: httpx.Client, template: str) -> Sample:
    """Create a sandbox, run `true` in it, delete it.

    Raises:
        Failure: one of the three failed.
    """
    began = time.perf_counter()
    sandbox = server.create_sandbox({"template_name": template, "timeout_seconds": _LIFETIME_S})
    created = time.perf_counter()
    try:
        ran = gateway.post(
            f"{sandbox['public_host']}/commands/run",
            headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
            json={"command": "true", "timeout": _COMMAND_S},
        )
        ended = time.perf_counter()
        if (status := answer(ran)["exit_code"]) != 0:
            raise Failure(f"`true` ended with status {status} in {sandbox['id']}.")
        return Sample(created - began, ended - began)
    finally:
        try:
            delete_sandbox(server, str(sandbox["id"]))
        except ApiError as error:
            if error.status != 404:
                raise


def _columns(samples: Sequence[Sample]) -> dict[str, list[float]]:
    return {
        "created": [one.created_s for one in samples],
        "first result": [one.result_s for one in samples],
    }


def _plain(
    template: str, at_once: int, elapsed: float, samples: Sequence[Sample], failures: Sequence[str]
) -> dict[str, Any]:
    figures = {
        f"{name.replace(' ', '_')}_ms": {
            **{f"p{rank}": round(percentile(values, rank) * 1000, 2) for rank in _PERCENTILES if values},
            "samples": [round(value * 1000, 2) for value in values],
        }
        for name, values in _columns(samples).items()
    }
    return {
        "template": template,
        "at_once": at_once,
        "seconds": round(elapsed, 3),
        "n": len(samples),
        **figures,
        "failures": list(failures),
    }


def _print(elapsed: float, samples: Sequence[Sample], failures: Sequence[str]) -> None:
    if samples:
        rows = [
            (
                name,
                *(duration(percentile(values, rank)) for rank in _PERCENTILES),
                duration(max(values)),
                str(len(values)),
            )
            for name, values in _columns(samples).items()
        ]
        print_table(("", *(f"p{rank}" for rank in _PERCENTILES), "max", "n"), rows)
        click.echo(f"{len(samples) / elapsed:.1f} per second, deleting included")
    out = console(stderr=True)
    for sentence in dict.fromkeys(failures):
        out.print(f"failed {failures.count(sentence)} times: {sentence}", markup=False)
