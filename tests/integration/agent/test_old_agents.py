"""Agents of older versions, as they live on in snapshots."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from thawbox import guest
from thawbox.agent import protocol
from thawbox.errors import GuestFault
from thawbox.guest import Endpoint, GuestError

SECRET = "0" * 64
PING = {"pid": 1, "uptime": 2.0, "time": 3.0}


@asynccontextmanager
async def old_agent(answers: dict[str, dict[str, Any]]) -> AsyncIterator[Endpoint]:
    """An agent that has the operations in ``answers``, which hold the RESULT of each, and no other."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = json.loads(await reader.readline())["op"]
        if name in answers:
            writer.write(protocol.encode_object(protocol.RESULT, answers[name]))
        else:
            refusal: dict[str, object] = {
                "code": "UNKNOWN_OPERATION",
                "message": f"this agent has no operation '{name}'",
            }
            writer.write(protocol.encode_object(protocol.ERROR, refusal))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], SECRET)
    finally:
        server.close()


async def test_an_agent_without_a_version_has_version_0() -> None:
    async with old_agent({"ping": PING}) as endpoint:
        assert await guest.ping(endpoint) == {**PING, "version": 0}


async def test_the_version_of_a_newer_agent_is_as_it_says() -> None:
    async with old_agent({"ping": {**PING, "version": 7, "more": "?"}}) as endpoint:
        assert (await guest.ping(endpoint))["version"] == 7


async def test_a_version_that_is_no_number_is_a_fault() -> None:
    async with old_agent({"ping": {**PING, "version": "new"}}) as endpoint:
        with pytest.raises(GuestFault, match="version"):
            await guest.ping(endpoint)


@pytest.mark.parametrize("name", ["renew", "write", "run"])
async def test_what_an_old_agent_lacks_is_said_with_what_to_do(name: str) -> None:
    calls: dict[str, Callable[[Endpoint], Awaitable[object]]] = {
        "renew": guest.renew,
        "write": lambda endpoint: guest.write_file(endpoint, "/x", b"x"),
        "run": lambda endpoint: guest.run(endpoint, argv=["true"]),
    }
    async with old_agent({"ping": PING}) as endpoint:
        with pytest.raises(GuestError, match=r"too old.*build the sandbox's template again") as caught:
            await calls[name](endpoint)
    assert caught.value.code == "UNKNOWN_OPERATION"
