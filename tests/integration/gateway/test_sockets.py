from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time

import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.gateway import Live, frame, frames, say
from thawbox.errors import GuestFault
from thawbox.gateway.sockets import session as sockets
from thawbox.gateway.sockets.frames import Frame
from thawbox.gateway.sockets.session import FrameSocket, Session, needs_spacing, serve
from thawbox.store import sandboxes


@pytest.fixture
def ended() -> asyncio.Event:
    return asyncio.Event()


def route(live: Live, session: Session, failed: Frame | None = None) -> None:
    async def test_route(websocket: WebSocket) -> None:
        await serve(websocket, session, failed=failed)

    live.app.add_api_websocket_route("/test", test_route)


async def echo(socket: FrameSocket) -> Frame:
    while True:
        got = await socket.receive()
        if got.get("type") == "end":
            return {"type": "complete", "success": True}
        await socket.send(got)


async def test_frames_go_both_ways_until_the_session_ends(live: Live) -> None:
    route(live, echo)
    async with live.connect("/test") as socket:
        await say(socket, type="a", text="Grüße")
        assert await frame(socket) == {"type": "a", "text": "Grüße"}
        await say(socket, type="end")
        assert await frames(socket) == [{"type": "complete", "success": True}]
    assert socket.close_code == 1000


async def test_empty_and_invalid_frames_are_ignored(live: Live) -> None:
    route(live, echo)
    async with live.connect("/test") as socket:
        for nonsense in ("", "  ", "{", "[]", "1", "null", "[" * 100_000, b"\xff"):
            await socket.send(nonsense)
        await socket.send(b'{"type":"binary"}')
        assert await frame(socket) == {"type": "binary"}


async def test_frame_that_is_too_large_ends_only_its_connection(live: Live) -> None:
    route(live, echo)
    async with live.connect("/test") as socket:
        with contextlib.suppress(ConnectionClosed):
            await socket.send("x" * (live.gate.context.settings.max_body_bytes + 1))
        await socket.wait_closed()
    assert socket.close_code == 1009


async def refusal(live: Live, path: str = "/test", **options: object) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with live.connect(path, **options):
            pass
    answer = caught.value.response
    body = json.loads(answer.body)
    assert answer.headers["X-Request-ID"] == body["request_id"]
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, body["code"]


async def test_who_may_not_is_told_before_the_upgrade(live: Live) -> None:
    route(live, echo)
    assert await refusal(live, additional_headers={}) == (401, "AUTHENTICATION_REQUIRED")
    forged = {"Authorization": "Bearer forged"}
    assert await refusal(live, additional_headers=forged) == (401, "INVALID_TOKEN")
    assert await refusal(live, "/nothing") == (404, "RESOURCE_NOT_FOUND")
    await live.gate.change(status="paused")
    assert (await refusal(live))[0] == 503
    async with live.gate.context.database.write() as connection:
        await sandboxes.delete(connection, live.gate.sandbox.id)
    assert await refusal(live) == (404, "RESOURCE_NOT_FOUND")


async def test_browsers_put_the_token_into_the_query(live: Live) -> None:
    route(live, echo)
    token = live.gate.token()["Authorization"].removeprefix("Bearer ")
    async with live.connect(f"/test?token={token}", additional_headers={}) as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Request-ID"]
        await say(socket, type="a")
        assert await frame(socket) == {"type": "a"}
    answer = await live.gate.anonymous.get("/files/list", params={"token": token})
    assert answer.status_code in (401, 404)  # only there


@pytest.mark.parametrize(
    ("agent", "needs"),
    [
        (None, True),
        ("", True),
        ("node", True),
        ("Node.js/22", True),
        ("Python/3.11 websockets/14.0", False),
        ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", False),
    ],
)
def test_which_clients_need_pauses(agent: str | None, needs: bool) -> None:
    assert needs_spacing(agent) is needs


async def burst(socket: FrameSocket) -> Frame:
    for number in range(5):
        await socket.send({"type": "event", "number": number})
    return {"type": "complete"}


async def test_frames_keep_their_distance_for_clients_that_lose_them_else(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = []
    send, close = WebSocket.send_text, WebSocket.close

    # Measured where frames are sent: on a busy machine two may arrive as one.
    async def timed_send(self: WebSocket, data: str) -> None:
        times.append(time.perf_counter())
        await send(self, data)

    async def timed_close(self: WebSocket, code: int = 1000, reason: str | None = None) -> None:
        times.append(time.perf_counter())
        await close(self, code, reason)

    monkeypatch.setattr(WebSocket, "send_text", timed_send)
    monkeypatch.setattr(WebSocket, "close", timed_close)
    route(live, burst)
    async with live.connect("/test", user_agent_header=None) as socket:
        assert len(await frames(socket)) == 6
    assert len(times) == 7
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.005
    assert times[-1] - times[0] > 0.055


async def test_other_clients_are_not_slowed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SPACING_S", 60)  # a single pause is longer than the test may take

    async def long(socket: FrameSocket) -> Frame:
        for number in range(500):
            await socket.send({"type": "event", "number": number})
        return {"type": "complete"}

    route(live, long)
    async with live.connect("/test") as socket:
        assert len(await frames(socket)) == 501


async def test_characters_that_are_cut_between_reads_are_whole(live: Live) -> None:
    async def pieces(socket: FrameSocket) -> Frame:
        for byte in "aä€😀".encode() + b"\xff" + "é".encode()[:1]:
            await socket.send_text("stdout", bytes([byte]))
        return {"type": "complete"}

    route(live, pieces)
    async with live.connect("/test") as socket:
        got = await frames(socket)
    assert "".join(item.get("data", "") for item in got) == "aä€😀\ufffd\ufffd"
    assert got[-1] == {"type": "complete"}


async def test_client_that_does_not_read_holds_the_session_back(live: Live) -> None:
    produced = 0

    async def endless(socket: FrameSocket) -> Frame:
        nonlocal produced
        while True:
            await socket.send_text("stdout", b"x" * 65536)
            produced += 65536

    route(live, endless)
    async with live.connect("/test", max_queue=1) as socket:
        last = -1
        while last != produced:  # both ends are on this loop: what can move does so within a few of its turns
            last = produced
            for _ in range(1000):
                await asyncio.sleep(0)
        assert produced < 16 * 1024 * 1024
        socket.transport.abort()


async def test_client_that_does_not_read_at_all_is_given_up(
    live: Live, ended: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "STUCK_S", 0.2)

    async def endless(socket: FrameSocket) -> Frame:
        try:
            while True:
                await socket.send_text("stdout", b"x" * 65536)
        finally:
            ended.set()

    route(live, endless)
    async with live.connect("/test", max_queue=1) as socket:
        await asyncio.wait_for(ended.wait(), 10)
        socket.transport.abort()


async def waiting_for_ever(socket: FrameSocket, ended: asyncio.Event) -> Frame:
    try:
        await socket.send({"type": "begun"})
        await asyncio.Event().wait()
    finally:
        ended.set()
    raise AssertionError


async def test_client_that_goes_ends_the_session(live: Live, ended: asyncio.Event) -> None:
    route(live, lambda socket: waiting_for_ever(socket, ended))
    async with live.connect("/test") as socket:
        await frame(socket)
    await asyncio.wait_for(ended.wait(), 5)


async def test_connection_that_breaks_ends_the_session(live: Live, ended: asyncio.Event) -> None:
    route(live, lambda socket: waiting_for_ever(socket, ended))
    async with live.connect("/test") as socket:
        await frame(socket)
        socket.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)


async def test_server_that_stops_ends_the_session(live: Live, ended: asyncio.Event) -> None:
    route(live, lambda socket: waiting_for_ever(socket, ended))
    async with live.connect("/test") as socket:
        await frame(socket)
        live.server.should_exit = True
        await asyncio.wait_for(ended.wait(), 5)
        with pytest.raises(ConnectionClosed):
            await frame(socket)
    assert socket.close_code == 1012


@pytest.mark.parametrize("fields", [{"status": "paused"}, {"expires_at": 1.0}, {"secret": "f" * 64}])
async def test_sandbox_that_ends_ends_the_session(
    live: Live, ended: asyncio.Event, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    monkeypatch.setattr(sockets, "CHECK_S", 0.01)
    route(live, lambda socket: waiting_for_ever(socket, ended), {"type": "exit", "code": -1})
    async with live.connect("/test") as socket:
        await frame(socket)
        await live.gate.change(**fields)
        error, last = await frames(socket)
        assert (error["type"], error["code"]) == ("error", "SERVICE_UNAVAILABLE")
        assert live.gate.sandbox.id in error["error"]
        assert last == {"type": "exit", "code": -1}
    assert socket.close_code == 1001
    assert ended.is_set()


async def test_agent_that_breaks_off_is_said_and_followed_by_the_final_frame(live: Live) -> None:
    async def broken(socket: FrameSocket) -> Frame:
        await socket.send_text("stdout", b"begun")
        raise GuestFault("gone")

    route(live, broken, {"type": "complete", "success": False})
    async with live.connect("/test") as socket:
        output, error, last = await frames(socket)
    assert output["data"] == "begun"
    assert (error["type"], error["code"]) == ("error", "SERVICE_UNAVAILABLE")
    assert last == {"type": "complete", "success": False}


async def test_session_that_does_not_listen_still_notices_the_end(live: Live, ended: asyncio.Event) -> None:
    async def deaf(socket: FrameSocket) -> Frame:
        socket.discard_input()
        return await waiting_for_ever(socket, ended)

    route(live, deaf)
    async with live.connect("/test") as socket:
        await frame(socket)
        for _ in range(3 * sockets.INPUT_WAITING):
            await say(socket, type="input")
    await asyncio.wait_for(ended.wait(), 5)
