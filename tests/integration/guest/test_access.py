"""Who may talk to the agent, and what strangers can do to it."""

import asyncio
import os
import secrets
from typing import Any

import pytest

from tests.support.agent import Agent
from thawbox import guest
from thawbox.agent import protocol
from thawbox.errors import GuestFault
from thawbox.guest import Endpoint, GuestError, channel
from thawbox.guest.channel import connect


async def answer_to(endpoint: Endpoint, data: bytes) -> bytes:
    """All that the agent says to these bytes until it closes."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    except OSError:  # it was closed before we had sent all
        return b""
    finally:
        writer.transport.abort()


async def test_ping_answers_with_pid_uptime_and_time(agent: Agent) -> None:
    answer = await guest.ping(agent.endpoint)
    assert answer["pid"] == agent.pid
    assert answer["uptime"] >= 0
    assert answer["time"] > 1_700_000_000


@pytest.mark.parametrize("op", ["ping", "spawn", "read", "write", "init", "quiesce", "nonsense"])
async def test_no_operation_without_the_secret(endpoint: Endpoint, op: str) -> None:
    stranger = Endpoint(endpoint.host, endpoint.port, secrets.token_hex(32))
    with pytest.raises(GuestError) as caught:
        async with connect(stranger, op, {"argv": ["true"], "path": "/etc/passwd"}) as channel:
            await channel.receive()
    assert caught.value.code == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b'{"op":"ping"}\n',
        b"\0" * 5000,
        b'{"secret":"' + b"a" * 64 + b'"}' + b" " * 100,
        b'{"secret":1}' + b" " * 100 + b"\n",
    ],
)
async def test_strangers_get_nothing_but_a_refusal(endpoint: Endpoint, data: bytes) -> None:
    answer = await answer_to(endpoint, data)
    assert b"RESULT" not in answer
    assert answer == b"" or b"UNAUTHORIZED" in answer


async def test_a_new_secret_in_the_pipe_replaces_the_old_one(own_agent: Agent) -> None:
    await guest.ping(own_agent.endpoint)
    new = own_agent.give_secret(secrets.token_hex(32))
    await guest.ping(new)
    with pytest.raises(GuestError, match="secret"):
        await guest.ping(own_agent.endpoint)


async def test_the_last_of_several_new_secrets_counts(own_agent: Agent) -> None:
    first = own_agent.give_secret(secrets.token_hex(32))
    last = own_agent.give_secret(secrets.token_hex(32))
    await guest.ping(last)
    with pytest.raises(GuestError, match="secret"):
        await guest.ping(first)


async def test_what_is_no_secret_in_the_pipe_is_ignored(own_agent: Agent) -> None:
    os.write(own_agent.secret_pipe, b"short\n" + b"z" * 64 + b"\n")
    with pytest.raises(GuestError, match="secret"):
        await guest.ping(Endpoint("127.0.0.1", own_agent.endpoint.port, "0" * 64))
    await guest.ping(own_agent.endpoint)


async def test_idle_strangers_cannot_keep_the_owner_out(own_agent: Agent) -> None:
    host, port = own_agent.endpoint.host, own_agent.endpoint.port
    strangers = [await asyncio.open_connection(host, port) for _ in range(300)]
    try:
        await guest.ping(own_agent.endpoint)
        assert await strangers[0][0].read() == b"", "the oldest stranger is sent away"
    finally:
        for _, writer in strangers:
            writer.transport.abort()


async def test_an_over_long_request_line_ends_the_connection(endpoint: Endpoint) -> None:
    start = encode_start(endpoint)
    assert await answer_to(endpoint, start + b"x" * (protocol.REQUEST_MAX + 100_000)) == b""
    await guest.ping(endpoint)


async def test_a_request_that_is_no_json_is_refused(endpoint: Endpoint) -> None:
    answer = await answer_to(endpoint, encode_start(endpoint) + b"nonsense\n")
    assert b"INVALID" in answer


async def test_an_unknown_operation_is_refused_by_name(endpoint: Endpoint) -> None:
    with pytest.raises(GuestError, match="'dance'") as caught:
        async with connect(endpoint, "dance", {}) as channel:
            await channel.receive()
    assert caught.value.code == "UNKNOWN_OPERATION"


async def test_a_frame_that_is_not_allowed_ends_the_connection(endpoint: Endpoint) -> None:
    request = protocol.encode_request("spawn", endpoint.secret, {"argv": ["sleep", "1000"], "stdin": True})
    answer = await answer_to(endpoint, request + b"\xff\xff\xff\xff\xff\xff")
    assert bytes([protocol.EXIT]) + b"\0" not in answer
    await guest.ping(endpoint)


async def test_many_clients_at_once(endpoint: Endpoint) -> None:
    answers = await asyncio.gather(*(guest.run(endpoint, argv=["echo", str(n)]) for n in range(60)))
    assert [int(answer.stdout) for answer in answers] == list(range(60))


async def test_wait_ready_gives_up_with_the_reason() -> None:
    with pytest.raises(GuestFault, match=r"0.05 s"):
        await guest.wait_ready(Endpoint("127.0.0.1", 1, "0" * 64), 0.05)


async def test_wait_ready_does_not_wait_for_a_wrong_secret(endpoint: Endpoint) -> None:
    with pytest.raises(GuestFault, match="refuses"):
        await guest.wait_ready(Endpoint(endpoint.host, endpoint.port, "0" * 64), 3600)


def encode_start(endpoint: Endpoint) -> bytes:
    """The part of a request that admits us."""
    return protocol.encode_request("ping", endpoint.secret)[: protocol.PREFIX_LENGTH]


async def test_a_connection_that_is_not_accepted_is_tried_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CONNECT_AGAIN_S", 0.01)
    opened = asyncio.open_connection
    calls = 0

    async def first_is_ignored(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            monkeypatch.setattr(channel, "CONNECT_AGAIN_S", 10)
            await asyncio.Event().wait()
        return await opened(*args, **kwargs)

    monkeypatch.setattr(asyncio, "open_connection", first_is_ignored)
    assert "pid" in await guest.ping(endpoint)
    assert calls == 2
