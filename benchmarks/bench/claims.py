"""Sandboxes asked for over HTTP by clients that do nothing else, and which way each was made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from thawbox.store import sandboxes
from thawbox.store.database import Database, open_database

from .figures import Series, gather
from .server import Server

# Given up before the server closes them (after 5 s without a request), so that none is used as it closes.
_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2)
_TIMEOUT = httpx.Timeout(300)


@dataclass(frozen=True, slots=True)
class Claim:
    """One sandbox: milliseconds from the create request to each answer, and its row's ``boot_path``."""

    created_ms: float
    result_ms: float
    path: str


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the server, as its organisation's user, and its database, for what the API does not tell."""

    server: Server
    http: httpx.AsyncClient
    database: Database

    async def claim(self, template: str) -> Claim:
        """Create, run `true`, delete.

        Raises:
            RuntimeError: the server or the sandbox refused.
            httpx.HTTPError: no answer.
        """
        async with self.sandbox(template) as claim:
            return claim

    @asynccontextmanager
    async def sandbox(self, template: str) -> AsyncIterator[Claim]:
        """The same; the sandbox lives as long as the block."""
        key = {"Authorization": f"Bearer {self.server.key}"}
        began = time.perf_counter()
        made = await self.http.post(
            f"{self.server.url}/v1/sandboxes", headers=key, json={"template_name": template}
        )
        created = time.perf_counter()
        if made.status_code != 201:
            raise RuntimeError(f"create: {made.status_code} {made.text}")
        sandbox = made.json()
        try:
            ran = await self.http.post(
                f"{sandbox['public_host']}/commands/run",
                headers={"Authorization": f"Bearer {sandbox['auth_token']}"},
                json={"command": "true"},
            )
            ended = time.perf_counter()
            if ran.status_code != 200 or ran.json()["exit_code"] != 0:
                raise RuntimeError(f"command: {ran.status_code} {ran.text}")
            path = await self._boot_path(sandbox["id"])
            yield Claim((created - began) * 1000, (ended - began) * 1000, path)
        finally:
            gone = await self.http.delete(f"{self.server.url}/v1/sandboxes/{sandbox['id']}", headers=key)
            if not gone.is_success:
                raise RuntimeError(f"delete: {gone.status_code} {gone.text}")

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
            except (RuntimeError, httpx.HTTPError) as error:
                if not waited:
                    await gate.wait()
                return error

        results = await asyncio.gather(*(one(number) for number in range(count)))
        return list(results), max(answered, default=began) - began

    async def _boot_path(self, sandbox_id: str) -> str:
        async with self.database.read() as connection:
            row = await sandboxes.get(connection, sandbox_id)
        return (row.boot_path if row else None) or "unknown"


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[Client]:
    """A client whose connections are kept open."""
    database = await open_database(server.settings)
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, limits=_CONNECTIONS, trust_env=False) as http:
            yield Client(server, http, database)
    finally:
        await database.close()


async def tried(client: Client, template: str) -> Claim | Exception:
    """A claim, or what went wrong: a failure is a figure too."""
    try:
        return await client.claim(template)
    except (RuntimeError, httpx.HTTPError) as error:
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
