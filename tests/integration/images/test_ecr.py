"""Passwords from an API like that of AWS."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.ecr import ECR, KEY, SECRET
from thawbox.images import ecr
from thawbox.images.values import SourceFailure


@asynccontextmanager
async def api(status: int, answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An ECR API that says ``answer`` to everybody; gives its address and what it heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        heard.append(head + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", heard


async def ask(endpoint: str) -> tuple[str, str]:
    return await ecr.login(ECR, KEY, SECRET, session_token=None, timeout_s=5, endpoint=endpoint)


async def test_ecr_gives_a_password_for_an_access_key() -> None:
    token = base64.b64encode(b"AWS:pass:word").decode()
    answer = json.dumps({"authorizationData": [{"authorizationToken": token}]}).encode()
    async with api(200, answer) as (endpoint, heard):
        assert await ask(endpoint) == ("AWS", "pass:word")
    assert b'{"registryIds":["123456789012"]}' in heard[0]
    assert b"GetAuthorizationToken" in heard[0]
    assert SECRET.encode() not in heard[0]


async def test_ecr_refuses() -> None:
    async with api(400, b'{"__type":"UnrecognizedClientException"}') as (endpoint, _):
        with pytest.raises(SourceFailure, match="UnrecognizedClientException") as refused:
            await ask(endpoint)
    assert refused.value.final


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"authorizationData":[{"authorizationToken":"!"}]}', b"[]"])
async def test_ecr_says_nonsense(answer: bytes) -> None:
    async with api(200, answer) as (endpoint, _):
        with pytest.raises(SourceFailure, match="holds no authorization token"):
            await ask(endpoint)


async def test_ecr_does_not_answer() -> None:
    with pytest.raises(SourceFailure, match="ECR API of region eu-west-1 is unreachable"):
        await ask("http://127.0.0.1:1/")
