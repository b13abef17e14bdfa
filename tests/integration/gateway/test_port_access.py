"""Who may reach a program inside, and that it sees nothing that would open more."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.gateway import Gate
from tests.support.served import Served, ok, program, serve
from thawbox import ids
from thawbox.store import sandboxes

KEY = "hopx_live_" + "a" * 12 + "." + "b" * 43


@pytest.fixture
async def served(gate: Gate) -> AsyncIterator[Served]:
    async with serve(gate) as made:
        yield made


async def another(served: Served, **fields: object) -> str:
    """A second sandbox; its id."""
    row = replace(served.gate.sandbox, id=ids.sandbox_id(), **fields)  # type: ignore[arg-type]
    async with served.context.database.write() as c:
        await sandboxes.insert(c, row)
    return row.id


async def log_in(served: Served, port: int) -> httpx.Response:
    return await served.ask(port, f"/page?a=1&token={served.token}&b=2", token=None)


def cookie_of(answer: httpx.Response) -> str:
    return answer.headers["Set-Cookie"].partition(";")[0]


async def test_private_by_default(served: Served) -> None:
    async with program(ok()) as inside:
        for port in (inside.port, 9):  # whether or not anything is there
            for host in (served.host(port), served.host(port, ids.sandbox_id())):
                answer = await served.ask(port, token=None, headers={"Host": host})
                assert (answer.status_code, answer.json()["code"]) == (401, "AUTHENTICATION_REQUIRED")
                preflight = await served.ask(
                    port,
                    token=None,
                    method="OPTIONS",
                    headers={
                        "Host": host,
                        "Origin": "https://evil.example",
                        "Access-Control-Request-Method": "GET",
                    },
                )
                assert preflight.status_code == 401
                assert not [name for name in preflight.headers if name.startswith("access-control")]
        assert inside.heads == []


@pytest.mark.parametrize("form", ["Bearer", "X-Thawbox-Token"])
async def test_a_token_opens_and_is_not_passed_on(served: Served, form: str) -> None:
    header = {"X-Thawbox-Token": served.token}
    if form == "Bearer":
        header = {"Authorization": f"bearer {served.token}"}
    async with program(ok()) as inside:
        assert (await served.ask(inside.port, token=None, headers=header)).status_code == 200
    assert served.token.encode() not in inside.heads[0]
    assert inside.header("Authorization") == []


async def test_a_programs_own_log_in_is_passed_on(served: Served) -> None:
    async with program(ok()) as inside:
        own = {"Authorization": "Basic dTpw", "X-API-Key": "its own", "Cookie": "session=1"}
        assert (await served.ask(inside.port, "/?token=its-own", headers=own)).status_code == 200
        assert inside.header("Authorization") == ["Basic dTpw"]
        assert inside.header("X-API-Key") == ["its own"]
        assert inside.header("Cookie") == ["session=1"]
        assert inside.heads[0].startswith(b"GET /?token=its-own ")
        ours = {"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}
        assert (await served.ask(inside.port, headers=ours)).status_code == 200
        assert KEY.encode() not in inside.heads[1]


async def test_wrong_tokens(served: Served) -> None:
    other = await another(served)
    others_token = served.gate.token(id=other)["Authorization"].split()[1]
    old = served.gate.token(created_at=time.time() - 10 * 86400)["Authorization"].split()[1]
    strangers = served.gate.token(organization_id=2)["Authorization"].split()[1]
    async with program(ok()) as inside:
        for token in ("x", served.token[:-3] + "aaa", others_token, old, strangers):
            answer = await served.ask(inside.port, token=token)
            assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN"), token
            in_query = await served.ask(inside.port, f"/?token={token}", token=None)
            assert in_query.status_code == 401
        assert inside.heads == []
    async with served.context.database.write() as c:
        await sandboxes.delete(c, served.id)
    assert (await served.ask(inside.port)).status_code == 404


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_browser_comes_with_the_token_once(gate: Gate, scheme: str) -> None:
    async with serve(gate, domain_scheme=scheme) as served, program(ok(b"page")) as inside:
        answer = await log_in(served, inside.port)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/page?a=1&b=2")
        assert answer.headers["Cache-Control"] == "no-store"
        assert inside.heads == []
        name, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert {"Path=/", "HttpOnly", "SameSite=Lax"} < set(attributes)
        assert ("Secure" in attributes) is name.startswith("__Host-") is (scheme == "https")
        assert not [word for word in attributes if word.startswith("Domain")]
        assert served.token not in answer.headers["Set-Cookie"]
        cookie = {"Cookie": f"a=1; {cookie_of(answer)}; b=2"}
        assert (await served.ask(inside.port, token=None, headers=cookie)).text == "page"
        assert inside.header("Cookie") == ["a=1; b=2"]
        assert inside.header("X-Forwarded-Proto") == [scheme]


async def test_the_redirect_stays_here(served: Served) -> None:
    answer = await served.ask(
        8000, f"http://127.0.0.1:{served.port}//evil.example/?token={served.token}", token=None
    )
    assert answer.headers["Location"] == "/evil.example/"


async def test_a_cookie_opens_one_sandbox_for_its_time(served: Served) -> None:
    other = await another(served)
    async with program(ok()) as inside:
        cookie = cookie_of(await log_in(served, inside.port))
        name, _, value = cookie.partition("=")
        ends, _, seal = value.partition(".")

        async def status(cookie: str, **headers: str) -> int:
            answer = await served.ask(inside.port, token=None, headers={"Cookie": cookie, **headers})
            return answer.status_code

        assert await status(cookie) == 200
        assert await status(f"{name}=bad; {cookie}") == 200  # another host may have planted one
        for wrong in (
            f"{name}={int(ends) + 1}.{seal}",
            f"{name}={ends}.",
            f"{name}={ends}.{seal}a",
            f"{name}=x.y",
        ):
            assert await status(wrong) == 401
        assert await status(cookie, Host=served.host(inside.port, other)) == 401
        api = {"Cookie": cookie, "Host": f"127.0.0.1:{served.port}"}
        refused = await served.ask(inside.port, "/env", token=None, headers=api)
        assert refused.status_code == 401  # the API takes no cookie
        api = {"Host": f"{served.id}.box.test", "Cookie": cookie}
        assert (await served.http.get("/files/read?path=/etc/passwd", headers=api)).status_code == 401


async def test_pages_of_other_sandboxes_cannot_use_a_cookie(served: Served) -> None:
    """To a browser all names below the domain are one site."""
    other = await another(served)
    async with program(ok()) as inside:
        cookie = cookie_of(await log_in(served, inside.port))

        async def status(origin: str) -> int:
            headers = {"Cookie": cookie, "Origin": origin}
            return (await served.ask(inside.port, method="POST", token=None, headers=headers)).status_code

        assert await status(f"http://{served.host(inside.port)}:7777") == 200
        assert await status(f"http://{served.host(3000)}") == 200  # a front end and its back end
        for origin in (
            f"http://{served.host(3000, other)}",
            "https://evil.example",
            "null",
            "http://box.test",
        ):
            assert await status(origin) == 401


async def test_cookies_of_programs_stay_with_their_host(served: Served) -> None:
    said = ok(b"", "Set-Cookie: a=1; Domain=box.test; Path=/", "Set-Cookie: b=2; Path=/; domain=.box.test")
    async with program(said) as inside:
        answer = await served.ask(inside.port)
    assert answer.headers.get_list("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]


async def test_public_ports_need_no_token_and_see_none(served: Served) -> None:
    async with program(ok()) as inside, program(ok()) as private:
        await served.gate.change(public_ports=[inside.port])
        assert (await served.ask(inside.port, token=None)).status_code == 200
        assert (await served.http.get(f"/ports/{served.id}/{inside.port}/")).status_code == 200
        assert (await served.ask(private.port, token=None)).status_code == 401
        other = served.gate.token(id=await another(served))
        assert (await served.ask(inside.port, token=None, headers=other)).status_code == 200
        assert inside.header("Authorization") == []
        assert (await served.ask(inside.port, f"/?token={served.token}", token=None)).status_code == 302
        by_path = f"/ports/{served.id}/{inside.port}/?token={served.token}&a=1"
        assert (await served.http.get(by_path)).status_code == 200
        assert inside.heads[-1].startswith(b"GET /?a=1 ")
        await served.gate.change(public_ports=True)
        assert (await served.ask(private.port, token=None)).status_code == 200
        await served.gate.change(expires_at=time.time() - 1)
        assert (await served.ask(inside.port, token=None)).status_code == 401


async def test_the_interface_is_never_a_program(served: Served) -> None:
    await served.gate.change(public_ports=True)
    answer = await served.http.get(f"/ports/{served.id}/7777/")
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    at_name = await served.http.get("/files/read?path=/etc/passwd", headers={"Host": served.host(7777)})
    assert at_name.status_code == 401


async def test_no_token_in_the_log(
    served: Served, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    async with program(ok()) as inside:
        await log_in(served, inside.port)
        await served.ask(inside.port)
        for path in (f"/?token={served.token}", f"/terminal?token={served.token}"):
            url = f"ws://127.0.0.1:{served.port}{path}"
            host = {"Host": served.host(inside.port)} if path[1] == "?" else {}
            with contextlib.suppress(InvalidStatus):
                async with connect(url, additional_headers=host, proxy=None):
                    pass
    # The test's own clients speak, too.
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("thawbox", "uvicorn"))
    ]
    said = capsys.readouterr()
    everything = "\n".join((said.out, said.err, *ours))
    assert served.token not in everything
    assert "/page" in everything  # the request itself is there
