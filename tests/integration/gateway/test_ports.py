"""Requests to programs inside: what they see, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.gateway import Gate
from tests.support.served import INSIDE, LOOPBACK, Served, ok, program, serve

MB = 1024 * 1024


@pytest.fixture
async def served(gate: Gate) -> AsyncIterator[Served]:
    async with serve(gate) as made:
        yield made


async def echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends each piece of the request's body back as soon as it is there."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while size := int(await reader.readline(), 16):
        piece = await reader.readexactly(size)
        writer.write(b"%x\r\n%s\r\n" % (size, piece))
        await writer.drain()
        await reader.readline()
    writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("host", [INSIDE, LOOPBACK])
async def test_a_program_answers(served: Served, host: str) -> None:
    async with program(ok(b"hello", "X-Mine: 1", "X-Request-ID: its-own"), host) as inside:
        answer = await served.ask(inside.port, "/a%2Fb/c?x=1&y=%20", headers={"X-Asked": "yes"})
    assert (answer.status_code, answer.text, answer.headers["X-Mine"]) == (200, "hello", "1")
    assert answer.headers.get_list("X-Request-ID") == ["its-own"]  # the answer is the program's own
    assert inside.heads[0].startswith(b"GET /a%2Fb/c?x=1&y=%20 HTTP/1.1\r\n")
    assert inside.header("X-Asked") == ["yes"]
    assert inside.header("Host") == [served.host(inside.port)]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "TRACE"])
async def test_every_method_with_a_body(served: Served, method: str) -> None:
    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(5)
        writer.write(ok(head.split()[0] + b" " + body))

    async with program(answer) as inside:
        assert (await served.ask(inside.port, method=method, content=b"12345")).text == f"{method} 12345"
        assert inside.header("Content-Length") == ["5"]


async def test_head_has_the_length_and_no_body(served: Served) -> None:
    async with program(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") as inside:
        answer = await served.ask(inside.port, method="HEAD")
    assert (answer.headers["Content-Length"], answer.content) == ("1000000", b"")


async def open_upload(served: Served, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A chunked request whose answer can be read before it is complete; httpx cannot do that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(
        f"POST / HTTP/1.1\r\nHost: {served.host(port)}\r\nX-Thawbox-Token: {served.token}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    return reader, writer


@pytest.mark.parametrize("host", [INSIDE, LOOPBACK])
async def test_a_body_streams_both_ways_at_once(served: Served, host: str) -> None:
    """The next piece is sent only when the one before has come back."""
    async with program(echo, host) as inside, asyncio.timeout(20):
        reader, writer = await open_upload(served, inside.port)
        for number in range(5):
            writer.write(b"7\r\npiece %d\r\n" % number)
            await reader.readuntil(b"piece %d\r\n" % number)
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("host", [INSIDE, LOOPBACK])
async def test_a_large_body_both_ways(served: Served, host: str) -> None:
    size = 32 * MB

    async def send(writer: asyncio.StreamWriter) -> None:
        for _ in range(size // MB):
            writer.write(b"%x\r\n%s\r\n" % (MB, bytes(MB)))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with program(echo, host) as inside, asyncio.timeout(50):
        reader, writer = await open_upload(served, inside.port)
        sending = asyncio.create_task(send(writer))
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while length := int(await reader.readline(), 16):
            got += len(await reader.readexactly(length))
            await reader.readline()
        await sending
        writer.close()
    assert got == size


async def test_events_arrive_one_by_one(served: Served) -> None:
    seen = asyncio.Event()

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        )  # ends with the connection
        writer.write(b"data: 1\n\n")
        await seen.wait()
        writer.write(b"data: 2\n\n")

    async with program(answer) as inside:
        headers = {"Host": served.host(inside.port), "X-Thawbox-Token": served.token}
        async with asyncio.timeout(20), served.http.stream("GET", "/", headers=headers) as got:
            pieces = got.aiter_raw()
            assert await anext(pieces) == b"data: 1\n\n"
            seen.set()
            assert await anext(pieces) == b"data: 2\n\n"


async def test_a_client_that_goes_away_ends_it_inside(served: Served) -> None:
    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await writer.drain()
        await reader.read()  # for ever, if nobody closes

    async with program(answer) as inside:
        headers = {"Host": served.host(inside.port), "X-Thawbox-Token": served.token}
        async with served.http.stream("GET", "/", headers=headers) as got:
            assert await anext(got.aiter_raw()) == b"first"
        async with asyncio.timeout(10):
            await inside.closed.wait()


@pytest.mark.parametrize("host", [INSIDE, LOOPBACK])
async def test_an_answer_that_breaks_off_does_not_look_complete(served: Served, host: str) -> None:
    async with program(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", host) as inside:
        with pytest.raises(httpx.RemoteProtocolError):
            await served.ask(inside.port)


async def test_an_early_answer_to_an_upload(served: Served) -> None:
    async def refuse(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

    async with program(refuse) as inside:
        answer = await served.ask(inside.port, method="POST", content=bytes(200_000))
    assert (answer.status_code, answer.text) == (413, "big")


NONSENSE = {
    "silence": b"",
    "garbage": b"\x00\xff not http\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    "endless line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "status that is none": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "switch unasked": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "half a head": b"HTTP/1.1 200",
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_a_program_that_answers_nonsense_is_a_502(served: Served, what: str) -> None:
    async with program(NONSENSE[what]) as inside:
        answer = await served.ask(inside.port)
    assert answer.status_code == 502
    body = answer.json()
    assert body["code"] == "PORT_NOT_REACHABLE"
    assert str(inside.port) in body["message"]
    assert answer.headers["X-Request-ID"] == body["request_id"]


async def test_nothing_listens(served: Served) -> None:
    async with program(b"") as inside:
        pass
    answer = await served.ask(inside.port)
    assert (answer.status_code, answer.json()["code"]) == (502, "PORT_NOT_REACHABLE")
    assert f"Nothing listens on port {inside.port}" in answer.json()["message"]


async def test_a_program_that_never_answers(gate: Gate) -> None:
    async def hang(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve(gate, port_idle_timeout_s=1) as served, program(hang) as inside:
        answer = await served.ask(inside.port)
        assert answer.status_code == 502
        assert "sent nothing for 1 s" in answer.json()["message"]


async def test_a_paused_sandbox(served: Served) -> None:
    await served.gate.change(status="paused")
    assert (await served.ask(8000)).status_code == 503


async def test_hop_by_hop_headers_stay_where_they_are(served: Served) -> None:
    said = ok(b"", "Connection: keep-alive, X-Hop", "Keep-Alive: timeout=5", "X-Hop: 1", "X-Stays: 1")
    async with program(said) as inside:
        answer = await served.ask(
            inside.port,
            headers={
                "Connection": "X-Secret, keep-alive",
                "X-Secret": "1",
                "TE": "trailers",
                "Keep-Alive": "5",
            },
        )
    assert "X-Hop" not in answer.headers
    assert answer.headers["X-Stays"] == "1"
    assert (inside.header("X-Secret"), inside.header("TE"), inside.header("Keep-Alive")) == ([], [], [])
    assert inside.header("Connection") == ["close"]


async def test_where_a_request_comes_from_is_ours_to_say(served: Served) -> None:
    lies = {
        "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "evil", "Forwarded": "for=6",
        "X-Real-IP": "6.6.6.6", "X-Forwarded-Port": "1", "X-Thawbox-Anything": "1",
    }  # fmt: skip
    async with serve(served.gate, trusted_proxies=("192.0.2.1",)) as strict, program(ok()) as inside:
        assert (await strict.ask(inside.port, headers=lies)).status_code == 200
    assert inside.header("X-Forwarded-For") == ["127.0.0.1"]
    assert inside.header("X-Forwarded-Proto") == ["http"]
    assert inside.header("X-Forwarded-Host") == [served.host(inside.port)]
    for name in ("Forwarded", "X-Real-IP", "X-Forwarded-Port", "X-Thawbox-Anything"):
        assert inside.header(name) == []


async def test_the_way_by_path(served: Served) -> None:
    async with program(ok(b"by path", "Set-Cookie: a=1")) as inside:
        answer = await served.http.get(
            f"/ports/{served.id}/{inside.port}/x/y?z=1",
            headers={"Authorization": f"Bearer {served.token}", "Cookie": "dashboard=secret"},
        )
    assert answer.text == "by path"
    assert inside.heads[0].startswith(b"GET /x/y?z=1 HTTP/1.1\r\n")
    assert inside.header("X-Forwarded-Prefix") == [f"/ports/{served.id}/{inside.port}"]
    assert inside.header("Cookie") == []  # all sandboxes share this host, so cookies would mix
    assert "Set-Cookie" not in answer.headers
    assert (await served.http.get(f"/ports/{served.id}/{inside.port}/")).status_code == 401
    query = f"/ports/{served.id}/{inside.port}/?token={served.token}"
    assert (await served.http.get(query)).status_code == 401  # a page could read its own address


async def test_the_sandboxs_interface_at_its_own_name(served: Served) -> None:
    for host in (
        f"{served.id}.box.test",
        f"7777-{served.id}.local.box.test:80",
        f"{served.id.upper()}.BOX.test.",
    ):
        headers = {"Host": host, "Authorization": f"Bearer {served.token}"}
        answer = await served.http.get("/health", headers=headers)
        assert answer.json()["vm_id"] == served.id
    other = {"Host": "1763291715051artmzuqw.box.test", "Authorization": f"Bearer {served.token}"}
    assert (await served.http.get("/health", headers=other)).status_code == 401


async def test_one_sandbox_has_so_many_requests_and_no_more(gate: Gate) -> None:
    async def hang(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve(gate, port_connections=2) as served, program(hang) as inside:
        waiting = [asyncio.create_task(served.ask(inside.port)) for _ in range(2)]
        while len(inside.heads) < 2:
            await asyncio.sleep(0.005)
        refused = await served.ask(inside.port)
        assert (refused.status_code, refused.json()["retry_after"], refused.headers["Retry-After"]) == (
            429,
            1,
            "1",
        )
        health = await served.http.get("/health", headers={"Authorization": f"Bearer {served.token}"})
        assert health.status_code == 200  # its interface is counted apart
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await inside.closed.wait()
        async with asyncio.timeout(10):
            while (await served.ask(1)).status_code == 429:  # as soon as the gateway has noticed
                await asyncio.sleep(0.01)


SMUGGLED = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "odd coding": b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "blank before colon": b"Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "bare line feeds": b"Content-Length: 5\nX: y\n\nhello",
    "odd chunk size": b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "signed length": b"Content-Length: +5\r\n\r\nhello",
    "folded header": b"Content-Length: 5\r\nX: a\r\n b\r\n\r\nhello",
    "two hosts": b"Host: elsewhere\r\nContent-Length: 5\r\n\r\nhello",
    "header without end": b"X: " + b"y" * 100_000,
    "connection names what it must not": b"Connection: host, content-length\r\nContent-Length: 5\r\n\r\nhello",
    "nul in header": b"X: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("what", SMUGGLED)
async def test_requests_that_could_be_read_in_two_ways(served: Served, what: str) -> None:
    """Refused, or passed on in one way: as one message, with the body that our listener understood."""
    bodies: list[bytes] = []

    async def keep(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok())
        await writer.drain()
        bodies.append(await reader.read(1000))

    async with program(keep) as inside:
        head = (
            f"POST / HTTP/1.1\r\nHost: {served.host(inside.port)}\r\nX-Thawbox-Token: {served.token}\r\n"
            "Connection: close\r\n"
        )
        answer = await served.raw(head.encode() + SMUGGLED[what])
    status = int(answer.split()[1])
    assert status == 200 or 400 <= status < 502, answer[:300]
    if status == 200:
        lengths, codings = inside.header("Content-Length"), inside.header("Transfer-Encoding")
        assert (lengths, codings) in ((["5"], []), ([], ["chunked"]))
        assert len(inside.heads) == 1
        assert bodies[0] in (b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n")
    else:
        assert inside.heads == []


async def test_http_1_0_without_a_host(served: Served) -> None:
    async with program(ok(b"old")) as inside:
        head = f"GET /ports/{served.id}/{inside.port}/ HTTP/1.0\r\nX-Thawbox-Token: {served.token}\r\n\r\n"
        answer = await served.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nold")
    assert inside.header("Host") == ["localhost"]


async def test_forms_of_a_proxys_request_are_refused(served: Served) -> None:
    async with program(ok()) as inside:
        token = f"Host: {served.host(inside.port)}\r\nX-Thawbox-Token: {served.token}\r\nConnection: close\r\n\r\n"
        for line in ("GET http://elsewhere/ HTTP/1.1", "CONNECT elsewhere:80 HTTP/1.1"):
            answer = await served.raw(f"{line}\r\n{token}".encode())
            assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert inside.heads == []
