from __future__ import annotations

import pytest

from tests.support.gateway import Gate


@pytest.mark.parametrize("path", ["/metrics", "/metrics/snapshot"])
async def test_counts_of_a_sandbox(gate: Gate, path: str) -> None:
    await gate.client.post("/commands/run", json={"command": "true"})
    await gate.client.post("/commands/run", json={"command": "false"})
    await gate.client.post("/commands/run", json={})
    body = (await gate.client.get(path)).json()
    assert body["requests_total"]["/commands/run"] == 3
    assert (body["total_requests"], body["total_errors"]) == (3, 1)
    assert (body["total_executions"], body["failed_executions"], body["active_executions"]) == (2, 1, 0)
    assert 0 < body["avg_duration_ms"]["/commands/run"] <= body["p95_duration_ms"] * 3
    assert 0 <= body["system"]["cpu"]["usage_percent"] <= 100
    for kind in ("memory", "disk"):
        space = body["system"][kind]
        assert space["used"] > 0
        assert space["free"] == max(0, space["total"] - space["used"])
    assert body["system"]["memory"]["total"] == 512 << 20
    assert body["uptime_seconds"] >= 0


async def test_in_the_text_format_of_prometheus(gate: Gate) -> None:
    await gate.client.post("/commands/run", json={"command": "true"})
    answer = await gate.client.get("/metrics/prometheus")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'sandbox_requests_total{route="/commands/run"} 1' in answer.text.splitlines()
    assert "sandbox_executions_total 1" in answer.text.splitlines()


async def test_what_a_sandbox_is(gate: Gate) -> None:
    info = (await gate.client.get("/info")).json()
    assert (info["vm_id"], info["agent"], info["os"]) == (gate.sandbox.id, "thawbox", "linux")
    assert info["endpoints"]["execute"] == "POST /execute"
    assert info["features"]["code_execution"] is True
    system = (await gate.client.get("/system")).json()
    assert system["hardware"]["cpu_cores"] == 1
    assert system["os"]["kernel"]
    assert system["environment"]["path"]
    assert system["metrics"]["memory"]["total"] > 0


async def test_what_needs_no_token(gate: Gate) -> None:
    assert (await gate.anonymous.get("/ping")).json() == {"status": "ok", "message": "pong"}
    root = (await gate.anonymous.get("/")).json()
    assert root["endpoints"]["env"] == "DELETE|GET|PATCH|PUT /env"
    assert (await gate.anonymous.get("/info")).status_code == 401


async def test_there_is_no_cache_and_no_kernel(gate: Gate) -> None:
    stats = (await gate.client.get("/cache/stats")).json()
    assert (stats["hits"], stats["cache"]["hits"], stats["enabled"]) == (0, 0, False)
    assert (await gate.client.post("/cache/clear")).json()["success"] is True
    sessions = (await gate.client.get("/jupyter/sessions")).json()
    assert (sessions["sessions"], sessions["count"]) == ([], 0)
