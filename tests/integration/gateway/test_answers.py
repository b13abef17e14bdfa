"""Every operation whose answer has a model in the OpenAPI document gives such an answer.

The hook of ``gate.client`` compares each success of the other tests of the gateway, too.
"""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema_rs import ValidationError
from starlette.responses import JSONResponse

from tests.support.documented import models, operation_of
from tests.support.gateway import Gate
from thawbox.gateway.run import commands

CODE = {"code": "1 + 1", "language": "python"}
VARIABLES = {"env_vars": {"A": "b"}}


async def test_every_operation_with_a_model_keeps_to_it(gate: Gate) -> None:
    path = f"{gate.folder}/f"
    calls: list[tuple[str, str, dict[str, Any]]] = [
        *(
            ("GET", path, {})
            for path in ("/", "/ping", "/health", "/info", "/system", "/cache", "/cache/stats")
        ),
        *(("GET", path, {}) for path in ("/metrics", "/metrics/snapshot", "/env", "/jupyter/sessions")),
        ("POST", "/cache/clear", {}),
        ("PUT", "/env", {"json": VARIABLES}),
        ("PATCH", "/env", {"json": VARIABLES}),
        ("DELETE", "/env/A", {}),
        ("DELETE", "/env", {}),
        ("POST", "/execute", {"json": CODE}),
        ("POST", "/execute/ipython", {"json": {"code": "1"}}),
        ("POST", "/commands/run", {"json": {"command": "echo x"}}),
        ("POST", "/files/write", {"json": {"path": path, "content": "x"}}),
        ("POST", "/files/upload", {"data": {"path": path}, "files": {"file": b"\xff"}}),
        ("GET", "/files/read", {"params": {"path": path}}),
        ("GET", "/files/exists", {"params": {"path": path}}),
        ("POST", "/files/mkdir", {"json": {"path": f"{gate.folder}/d"}}),
        ("GET", "/files/list", {"params": {"path": str(gate.folder)}}),
        ("DELETE", "/files/remove", {"params": {"path": path}}),
    ]
    for method, target, arguments in calls:
        answer = await gate.client.request(method, target, **arguments)
        assert answer.status_code == 200, answer.text
    callback = {"callback_url": "http://192.0.2.1/", "code": "1"}
    gate.use(callback_allow=("192.0.2.0/24",))
    started = [
        await gate.client.post("/execute/background", json={"code": "1", "name": "n"}),
        await gate.client.post("/commands/background", json={"command": "sleep 60"}),
        await gate.client.post("/execute/async", json=callback),
    ]
    job = started[1].json()["process_id"]
    calls += [
        ("POST", "/execute/background", {}),
        ("POST", "/commands/background", {}),
        ("POST", "/execute/async", {}),
    ]
    killing: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/execute/processes", {}),
        ("GET", f"/execute/processes/{job}", {}),
        ("GET", "/processes", {}),
        ("POST", f"/processes/{job}/kill", {}),
        ("POST", f"/execute/kill/{job}", {}),
        ("POST", "/execute/kill", {"params": {"process_id": job}}),
        ("DELETE", "/execute/kill", {"params": {"process_id": job}}),
    ]
    for method, target, arguments in killing:
        answer = await gate.client.request(method, target, **arguments)
        assert answer.status_code == 200, answer.text
    assert [answer.status_code for answer in started] == [200] * 3
    assert {operation_of(method, target) for method, target, _ in calls + killing} == set(models())


@pytest.mark.parametrize("change", [{"more": 1}, {"pid": None}, {"pid": ...}])
async def test_an_answer_that_differs_from_its_model_is_noticed(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    def changed(answer: dict[str, Any]) -> JSONResponse:
        return JSONResponse({key: value for key, value in (answer | change).items() if value is not ...})

    monkeypatch.setattr(commands, "JSONResponse", changed)
    with pytest.raises(ValidationError):
        await gate.client.post("/commands/run", json={"command": "true"})
