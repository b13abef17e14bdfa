from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.callbacks import (
    Receiver,
    execute,
    owed,
    permissive,
    permitting,
    receiver,
    runner,
    until_nothing_is_owed,
)
from tests.support.gateway import Gate
from thawbox.gateway.run import callback_delivery, callback_target
from thawbox.gateway.run.callback_target import AddressNotAllowed
from thawbox.store import sandboxes
from thawbox.store.callbacks import CallbackRow

__all__ = ["permissive", "receiver", "runner"]


async def test_the_end_is_told_and_signed(permissive: Gate, receiver: Receiver) -> None:
    source = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)"
    started = await execute(
        permissive,
        source,
        receiver.url,
        callback_headers={"X-Mine": "yes"},
        callback_signature_secret="sécret",
    )
    assert (started["status"], started["callback_url"]) == ("queued", receiver.url)
    async with asyncio.timeout(20):
        await receiver.called.wait()
    headers, raw = receiver.calls[0]
    body = json.loads(raw)
    assert body["execution_id"] == started["execution_id"]
    assert (body["status"], body["success"], body["exit_code"]) == ("failed", False, 3)
    assert (body["stdout"], body["stderr"]) == ("out\n", "err\n")
    assert body["execution_time"] > 0
    assert body["timestamp"].endswith("Z")
    assert "exit code 3" in body["error"]
    stamp = headers["x-hopx-timestamp"]
    expected = hmac.new("sécret".encode(), stamp.encode() + raw, hashlib.sha256).hexdigest()
    assert headers["x-hopx-signature"] == f"sha256={expected}"
    assert abs(int(stamp) - time.time()) < 30
    assert (headers["content-type"], headers["x-mine"]) == ("application/json", "yes")
    assert headers["host"] == receiver.url.split("/")[2]
    await until_nothing_is_owed(permissive)
    assert len(receiver.calls) == 1


async def test_success_and_time_over(permissive: Gate, receiver: Receiver) -> None:
    await execute(permissive, "print(1)", receiver.url)
    await until_nothing_is_owed(permissive)
    await execute(permissive, "import time\ntime.sleep(600)", receiver.url, timeout=0.3)
    await until_nothing_is_owed(permissive)
    good, late = (json.loads(raw) for _, raw in receiver.calls)
    assert (good["status"], good["success"], "error" in good) == ("completed", True, False)
    assert (late["status"], late["success"], late["exit_code"]) == ("timeout", False, 124)
    assert "x-hopx-signature" not in receiver.calls[0][0]


@pytest.mark.parametrize(("statuses", "calls"), [([500, 503, 302, 200], 4), ([500], 6)])
async def test_calls_are_repeated_and_then_given_up(
    permissive: Gate, receiver: Receiver, statuses: list[int], calls: int
) -> None:
    receiver.statuses = statuses
    await execute(permissive, "1", receiver.url)
    await until_nothing_is_owed(permissive)
    assert len(receiver.calls) == calls
    assert len({raw for _, raw in receiver.calls}) == 1


async def test_what_is_owed_is_paid_by_the_next_server(gate: Gate, receiver: Receiver) -> None:
    context = permitting(gate)
    await execute(gate, "print('kept')", receiver.url)
    assert len(await owed(gate)) == 1
    async with callback_delivery.delivering(context):
        await until_nothing_is_owed(gate)
    assert json.loads(receiver.calls[0][1])["stdout"] == "kept\n"


async def test_a_deleted_sandbox_is_told_as_a_failure(gate: Gate, receiver: Receiver) -> None:
    context = permitting(gate)
    started = await execute(gate, "import time\ntime.sleep(600)", receiver.url)
    await gate.client.post(f"/execute/kill/{started['execution_id']}")
    async with gate.context.database.write() as connection:
        await sandboxes.delete(connection, gate.sandbox.id)
    async with callback_delivery.delivering(context):
        await until_nothing_is_owed(gate)
    body = json.loads(receiver.calls[0][1])
    assert (body["status"], body["success"]) == ("failed", False)
    assert "deleted" in body["error"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com/",
        "http://",
        "nonsense",
        "http://user:pw@example.com/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://localhost:8080/",
        "http://a.localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://224.0.0.1/",
        "http://0.0.0.0/",
        "http://100.64.0.1/",
        "http://255.255.255.255/",
        "http://example.com:99999/",
        "https://" + "x" * 3000,
    ],
)
async def test_addresses_that_are_refused_at_once(gate: Gate, url: str) -> None:
    answer = await gate.client.post("/execute/async", json={"code": "1", "callback_url": url})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST"), answer.text
    assert "callback_url" in answer.json()["message"]
    assert await owed(gate) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"callback_url": 5},
        {"callback_url": "https://example.com", "callback_headers": {"Host": "x"}},
        {"callback_url": "https://example.com", "callback_headers": {"X-HopX-Signature": "x"}},
        {"callback_url": "https://example.com", "callback_headers": {"A": "x\r\nB: y"}},
        {"callback_url": "https://example.com", "callback_headers": {"A b": "x"}},
        {"callback_url": "https://example.com", "callback_headers": {f"H{n}": "x" for n in range(33)}},
        {"callback_url": "https://example.com", "language": "cobol"},
    ],
)
async def test_bad_fields_are_400_and_leave_nothing(gate: Gate, body: dict[str, Any]) -> None:
    answer = await gate.client.post("/execute/async", json={"code": "1", **body})
    assert answer.status_code == 400
    assert await owed(gate) == []


async def test_a_job_that_cannot_start_leaves_nothing(permissive: Gate, receiver: Receiver) -> None:
    answer = await permissive.client.post(
        "/execute/async", json={"code": "1", "callback_url": receiver.url, "workdir": "/no/such"}
    )
    assert answer.status_code == 400
    assert await owed(permissive) == []


async def test_a_name_that_means_a_private_address_is_not_called(gate: Gate) -> None:
    """As when a name is rebound between the check and the call."""

    async def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"called {request.url}")

    row = CallbackRow(id="a", sandbox_id="s", url="http://localhost/", headers={}, next_at=0, created_at=0)
    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
        with pytest.raises(AddressNotAllowed):
            await callback_delivery.call(gate.context, http, row, b"{}")


async def test_the_call_goes_to_the_address_that_was_checked(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        async def nothing() -> AsyncIterator[bytes]:
            yield b""

        seen.append(request)
        return httpx.Response(200, content=nothing())

    async def look_up(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.216.34", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    row = CallbackRow(
        id="a", sandbox_id="s", url="https://hook.example:8443/x", headers={}, next_at=0, created_at=0
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        assert await callback_delivery.call(gate.context, http, row, b"{}") == 200
    request = seen[0]
    assert (request.url.host, request.url.port, request.url.path) == ("93.184.216.34", 8443, "/x")
    assert request.headers["host"] == "hook.example:8443"
    assert request.extensions["sni_hostname"] == "hook.example"


def test_one_bad_address_of_a_name_spoils_it() -> None:
    callback_target.check_address(ipaddress.ip_address("93.184.216.34"), ())
    for text in ("10.0.0.1", "::ffff:10.0.0.1"):
        with pytest.raises(AddressNotAllowed):
            callback_target.check_address(ipaddress.ip_address(text), ())
    allowed = callback_target.networks(["10.0.0.0/8"])
    callback_target.check_address(ipaddress.ip_address("::ffff:10.0.0.1"), allowed)
