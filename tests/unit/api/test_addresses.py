"""Where sandboxes say that they are, and what host names mean."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pydantic
import pytest
from hopx_ai import Sandbox
from hypothesis import given
from hypothesis import strategies as st

from tests.support.control_plane import World, make_world
from thawbox.settings import load
from thawbox.web.addresses import SandboxHost, parse_host

ID = "1763291715051artmzuqw"


async def addresses(tmp_path: Path, **settings: object) -> tuple[str, str]:
    world = await make_world(load(state=tmp_path, **settings))
    made = await world.sandbox()
    await world.context.database.close()
    assert made["direct_url"] == made["public_host"]
    return tuple(str(made[name]).replace(str(made["id"]), "ID") for name in ("public_host", "preview_url"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("settings", "host", "preview"),
    [
        ({}, "http://box.example:7777", "http://box.example:7777/ports/ID/{port}/"),
        ({"gateway_url": "https://gate/"}, "https://gate", "https://gate/ports/ID/{port}/"),
        ({"domain": "a.test"}, "http://ID.a.test:7777", "http://{port}-ID.a.test:7777/"),
        ({"domain": "a.test", "domain_port": 80}, "http://ID.a.test", "http://{port}-ID.a.test/"),
        ({"domain": "a.test", "domain_scheme": "https"}, "https://ID.a.test", "https://{port}-ID.a.test/"),
        (
            {"domain": "10.0.0.5.nip.io", "domain_scheme": "https", "domain_port": 8443},
            "https://ID.10.0.0.5.nip.io:8443",
            "https://{port}-ID.10.0.0.5.nip.io:8443/",
        ),
        (
            {"domain": "local.vms.hopx.dev", "domain_scheme": "https"},
            "https://7777-ID.local.vms.hopx.dev",
            "https://{port}-ID.local.vms.hopx.dev/",
        ),
    ],
)
async def test_addresses(tmp_path: Path, settings: dict[str, object], host: str, preview: str) -> None:
    assert await addresses(tmp_path, **settings) == (host, preview)


async def test_the_published_client_makes_preview_addresses(tmp_path: Path) -> None:
    host, preview = await addresses(tmp_path, domain="local.vms.hopx.dev", domain_scheme="https")
    sandbox = Sandbox.__new__(Sandbox)
    sandbox.get_info = lambda: Mock(public_host=host)
    assert sandbox.get_preview_url(8080) == preview.replace("{port}", "8080")
    assert sandbox.agent_url == f"{host}/"


@pytest.mark.parametrize(
    ("host", "place"),
    [
        (f"{ID}.a.test", SandboxHost(ID, None)),
        (f"{ID}.A.TEST.:7777", SandboxHost(ID, None)),
        (f"7777-{ID}.a.test", SandboxHost(ID, None)),
        (f"7777-{ID}.local.a.test", SandboxHost(ID, None)),
        (f"8080-{ID}.a.test", SandboxHost(ID, 8080)),
        (f"65535-{ID}.local.a.test:1", SandboxHost(ID, 65535)),
        (f"65536-{ID}.a.test", None),
        (f"0-{ID}.a.test", None),
        (f"080-{ID}.a.test", None),
        (f"-{ID}.a.test", None),
        (f"8080-{ID}-x.a.test", None),
        (f"x.{ID}.a.test", None),
        (f"{ID}.other.a.test", None),
        (f"{ID}.a.test.evil", None),
        (f"{ID}xa.test", None),
        ("a.test", None),
        (".a.test", None),
        ("", None),
        (f"user@{ID}.a.test", None),
        (f"{ID}.a.test/", None),
    ],
)
def test_what_host_names_mean(host: str, place: SandboxHost | None) -> None:
    assert parse_host(host, load(domain="a.test")) == place
    assert parse_host(host, load()) is None


@given(st.text(max_size=100))
def test_any_host_header_is_harmless(host: str) -> None:
    for text in (host, f"{host}.a.test", f"{host}-{ID}.a.test"):
        found = parse_host(text, load(domain="a.test"))
        assert found is None or (found.sandbox_id.isalnum() and found.sandbox_id.isascii())


@pytest.mark.parametrize(
    "domain", ["A.test", "a..test", ".a", "a.", "http://a", "a:80", "-a", "a b", "a/", ""]
)
def test_domains_that_are_none(domain: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        load(domain=domain)


async def test_public_ports_at_creation(world: World) -> None:
    assert (await world.sandbox())["public_ports"] == []
    assert (await world.sandbox(public_ports=[9000, 80, 80]))["public_ports"] == [80, 9000]
    everything = await world.sandbox(public_ports=True)
    assert everything["public_ports"] is True
    assert (await world.api.get(f"/v1/sandboxes/{everything['id']}")).json()["public_ports"] is True
    assert (await world.sandbox(public_ports=False))["public_ports"] in ([], False)
    for wrong in (["80"], [0], [65536], [1.5], [True], "all", 80, list(range(1, 102))):
        answer = await world.api.post("/v1/sandboxes", json={"template_name": "t0-x", "public_ports": wrong})
        assert answer.status_code == 400, wrong
        assert "public_ports" in answer.json()["message"]
