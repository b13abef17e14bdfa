"""Sandboxes asked for over HTTP by clients that do nothing else, and which way each was made.

The client shares two cores with what it measures, so it is a cheap one: aiohttp takes 0.14 ms of a core for a
request, httpx 0.9, and 1.5 with twenty under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from .figures import Series, gather
from .server import Server

_KEEP_S = 20
"""Connections are given up before the server closes them (after 30 s without a request), so that none is used as it
closes."""
_FAILURES = (RuntimeError, aiohttp.ClientError, TimeoutError)
_TIMEOUT = aiohttp.ClientTimeout(total=300)


@dataclass(frozen=True, slots=True)
class Claim:
    """One sandbox: milliseconds from the create request to each answer, and its row's ``boot_path``."""

    created_ms: float
    result_ms: float
    path: str


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the server, as its organisation's user."""

    server: Server
    http: aiohttp.ClientSession

    async def claim(self, template: str) -> Claim:
        """Create, run `true`, delete.

        Raises:
            RuntimeError: the server or the sandbox refused.
            aiohttp.ClientError, TimeoutError: no answer.
        """
        async with self.sandbox(template) as claim:
            return claim

    @asynccontextmanager
    async def sandbox(self, template: str) -> AsyncIterator[Claim]:
        """The same; the sandbox lives as long as the block."""
        key = {"Authorization": f"Bearer {self.server.key}"}
        began = time.perf_counter()
        url = f"{self.server.url}/v1/sandboxes"
        status, made = await answer(self.http.post(url, headers=key, json={"template_name": template}))
        created = time.perf_counter()
        if status != 201:
            raise RuntimeError(f"create: {status} {made!r}")
        sandbox = json.loads(made)
        try:
            status, ran = await answer(
                self.http.post(
                    f"{sandbox['public_host']}/commands/run",
                    headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
                    json={"command": "true"},
                )
            )
            ended = time.perf_counter()
            if status != 200 or json.loads(ran)["exit_code"] != 0:
                raise RuntimeError(f"command: {status} {ran!r}")
            path = sandbox["boot_path"] or "unknown"
            yield Claim((created - began) * 1000, (ended - began) * 1000, path)
        finally:
            status, said = await answer(self.http.delete(f"{url}/{sandbox['id']}", headers=key))
            if status >= 400:
                raise RuntimeError(f"delete: {status} {said!r}")

    async def burst(self, template: str, count: int) -> tuple[list[Claim | Exception], float]:
        """``count`` at the same time, all kept until the last has answered; and the seconds until then."""
        began = time.perf_counter()
        answered = [0.0] * count
        gate = asyncio.Barrier(count)

        async def one(number: int) -> Claim | Exception:
            waited = False
            try:
                async with self.sandbox(template) as claim:
                    answered[number] = time.perf_counter()
                    waited = True
                    await gate.wait()
                    return claim
            except _FAILURES as error:
                if not waited:
                    await gate.wait()
                return error

        results = await asyncio.gather(*(one(number) for number in range(count)))
        return list(results), max(answered, default=began) - began


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[Client]:
    """A client whose connections are kept open."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_S)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as http:
        yield Client(server, http)


async def answer(
    request: contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse],
) -> tuple[int, bytes]:
    """Status and body of what is answered to ``request``."""
    async with request as response:
        return response.status, await response.read()


async def tried(client: Client, template: str) -> Claim | Exception:
    """A claim, or what went wrong: a failure is a figure too."""
    try:
        return await client.claim(template)
    except _FAILURES as error:
        return error


def series(name: str, results: Iterable[Claim | Exception], *, expected: str) -> tuple[Series, ...]:
    """Create and first result of those made the ``expected`` way, then the first results of each other way.

    Nothing of another way is mixed in: a sandbox that was restored is no sample of one that was ready.
    """
    kept = list(results)
    failures = [one for one in kept if isinstance(one, Exception)]
    good = [one for one in kept if isinstance(one, Claim)]
    meant = [one for one in good if one.path == expected]
    others = sorted({one.path for one in good} - {expected})
    return (
        gather(f"{name}: create answered", "ms", [one.created_ms for one in meant]),
        gather(f"{name}: first result", "ms", [*(one.result_ms for one in meant), *failures]),
        *(
            gather(
                f"{name}: first result, but {path} instead of {expected}",
                "ms",
                [one.result_ms for one in good if one.path == path],
            )
            for path in others
        ),
    )
