"""How many builds an organisation may ask for: counted in the database, told to who asks too often."""

from __future__ import annotations

from typing import Any

import httpx

from .helpers.recipes import recipe, run
from .server import Server

LIMITS = "/v1/account/limits"


def ask(server: Server, name: str, client: httpx.Client | None = None) -> httpx.Response:
    return (client or server.api).post("/v1/templates/build", json=recipe(name, run("true")))


def account(server: Server, client: httpx.Client | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = (client or server.api).get(LIMITS)
    assert answer.status_code == 200
    return answer.json()["limits"], answer.json()["usage"]


def assert_refused(answer: httpx.Response, sentence: str, *, least: int, most: int) -> None:
    """429 as clients read it; ``least`` and ``most``: seconds that it may say."""
    body = answer.json()
    assert answer.status_code == 429, answer.text
    assert body["error"] == "Rate limit exceeded"
    assert body["code"] == "RATE_LIMIT_EXCEEDED"
    assert body["message"].startswith(sentence), body
    assert least <= body["retry_after"] <= most
    assert answer.headers["Retry-After"] == str(body["retry_after"])
    assert str(body["retry_after"]) in body["message"]
    assert body["request_id"] == answer.headers["X-Request-ID"]


def test_hour_limit_holds_across_a_restart_and_for_each_organisation_alone(own_server: Server) -> None:
    own_server.settings |= {"THAWBOX_BUILDS_PER_HOUR": "2", "THAWBOX_BUILDS_PER_DAY": "50"}
    own_server.start()
    for name in ("one", "two"):
        assert ask(own_server, name).status_code == 202
    sentence = "Rate limit exceeded: 2 template builds per hour"
    assert_refused(ask(own_server, "three"), sentence, least=3000, most=3600)
    assert own_server.api.get("/v1/templates/three").status_code == 404
    limits, usage = account(own_server)
    assert (limits["template_builds_per_hour"], limits["template_builds_per_day"]) == (2, 50)
    assert (usage["template_builds_last_hour"], usage["template_builds_last_day"]) == (2, 2)

    own_server.kill()
    own_server.start()
    assert_refused(ask(own_server, "three"), sentence, least=3000, most=3600)
    deleted = own_server.api.delete("/v1/templates/one")
    assert deleted.status_code == 200
    assert_refused(ask(own_server, "three"), sentence, least=3000, most=3600)  # a deleted one was built, too

    with own_server.client(own_server.new_key("others")) as other:
        assert account(own_server, other)[1]["template_builds_last_hour"] == 0
        assert ask(own_server, "three", other).status_code == 202


def test_what_was_refused_does_not_count(own_server: Server) -> None:
    own_server.settings |= {"THAWBOX_BUILDS_PER_HOUR": "2", "THAWBOX_BUILDS_PER_DAY": "0"}
    own_server.start()
    assert ask(own_server, "one").status_code == 202
    assert ask(own_server, "one").status_code == 409
    assert own_server.api.post("/v1/templates/build", json={"alias": "two", "steps": []}).status_code == 400
    assert account(own_server)[1]["template_builds_last_hour"] == 1
    assert ask(own_server, "two").status_code == 202
    assert ask(own_server, "three").status_code == 429


def test_day_limit(own_server: Server) -> None:
    own_server.settings |= {"THAWBOX_BUILDS_PER_HOUR": "0", "THAWBOX_BUILDS_PER_DAY": "1"}
    own_server.start()
    assert ask(own_server, "one").status_code == 202
    sentence = "Rate limit exceeded: 1 template builds per day"
    assert_refused(ask(own_server, "two"), sentence, least=80_000, most=86_400)
    assert account(own_server)[0]["template_builds_per_hour"] is None


def test_defaults_are_ten_an_hour_and_fifty_a_day(own_server: Server) -> None:
    for name in ("THAWBOX_BUILDS_PER_HOUR", "THAWBOX_BUILDS_PER_DAY"):
        del own_server.settings[name]
    own_server.start()
    limits, usage = account(own_server)
    assert (limits["template_builds_per_hour"], limits["template_builds_per_day"]) == (10, 50)
    assert usage["template_builds_last_hour"] == 0


def test_zero_is_no_limit(own_server: Server) -> None:
    own_server.start()  # with 0 and 0
    names = [f"template-{number}" for number in range(12)]  # more than the default
    assert [ask(own_server, name).status_code for name in names] == [202] * 12
    limits, usage = account(own_server)
    assert (limits["template_builds_per_hour"], limits["template_builds_per_day"]) == (None, None)
    assert usage["template_builds_last_hour"] == 12
