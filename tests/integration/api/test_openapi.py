"""The OpenAPI document against the server: generated requests, good and bad, for every operation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from tests.support.control_plane import World, make_world
from thawbox.api.app import create_app
from thawbox.api.context import ApiContext
from thawbox.guest import Endpoint
from thawbox.settings import load

DOCUMENT = create_app(ApiContext(load(), *[cast(Any, None)] * 4)).openapi()
OPERATIONS = {
    operation.label: operation
    for operation in (
        cast(Any, found).ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    )
}
# Not asked for: that whatever fits the document is accepted. A recipe's rules are more than a schema can say.
CHECKS: list[Callable[..., Any]] = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.missing_required_header,
    openapi_checks.unsupported_method,
]


CASES = [
    (label, mode)
    for label in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if label != "GET /health" or mode is GenerationMode.POSITIVE  # it has nothing that could be wrong
]


@schemathesis.serializer("application/gzip")
def as_it_is(_context: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode()


@dataclass
class Served:
    """A world and the loop that it lives in; hypothesis calls from outside of any loop."""

    world: World
    loop: asyncio.Runner
    known: dict[str, str]

    def send(self, case: Any) -> httpx.Response:
        for name, value in self.known.items():  # else every generated id would be a 404
            if name in (case.path_parameters or {}) and len(case.path_parameters[name]) % 2:
                case.path_parameters[name] = value
        arguments = case.as_transport_kwargs(base_url="http://box.example:7070")
        arguments["headers"] = {**arguments["headers"], "X-API-Key": self.world.key}
        body = {
            "content" if name == "data" else name: value
            for name, value in arguments.items()
            if name in ("data", "json", "params", "cookies") and value is not None
        }
        request = self.world.api.build_request(
            arguments["method"], arguments["url"], headers=arguments["headers"], **body
        )
        return self.loop.run(self.world.api.send(request))


def wrong_until_sent(case: Any, url: httpx.URL) -> bool:
    """Whether the query was to be wrong and is right in the URL: there everything is a string, ``[false]`` as well."""
    query = case.meta.components.get(ParameterLocation.QUERY)
    if query is None or query.mode is not GenerationMode.NEGATIVE:
        return False
    operation = DOCUMENT["paths"][case.path][case.method.lower()]
    parameters = [parameter for parameter in operation["parameters"] if parameter["in"] == "query"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in parameters}
    required = {parameter["name"] for parameter in parameters if parameter["required"]}
    return required <= set(url.params) and all(
        name in schemas and any(jsonschema_rs.is_valid(schemas[name], value) for value in readings(text))
        for name, text in url.params.multi_items()
    )


def readings(text: str) -> list[str | int]:
    """What a text in a URL may stand for."""
    try:
        return [text, int(text)]
    except ValueError:
        return [text]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with asyncio.Runner() as loop:
        world = loop.run(make_world(load(state=tmp_path_factory.mktemp("state"), requests_per_minute=0)))
        loop.run(world.template("python", public=True))
        sandbox = loop.run(world.sandbox())
        world.sandboxes.address = Endpoint("127.0.0.1", 1, "0" * 64)  # where nobody listens
        world.context.events.close()  # so that streams end
        recipe = {"name": "built", "from_image": "debian:12"}
        build = loop.run(world.api.post("/v1/templates/build", json=recipe))
        yield Served(
            world,
            loop,
            {"reference": "python", "sandbox_id": str(sandbox["id"]), "build_id": build.json()["build_id"]},
        )
        loop.run(world.context.database.close())


@pytest.mark.parametrize(("label", "mode"), CASES, ids=[f"{label} {mode.value}" for label, mode in CASES])
def test_every_operation_does_as_documented(label: str, mode: GenerationMode, served: Served) -> None:
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=25,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def obeys(case: Any) -> None:
        answer = served.send(case)
        checks = CHECKS
        if wrong_until_sent(case, answer.request.url):
            checks = [check for check in CHECKS if check is not openapi_checks.negative_data_rejection]
        case.validate_response(schemathesis.Response.from_any(answer), checks=checks)

    obeys()


def test_document_names_every_route_and_how_to_log_in() -> None:
    assert set(DOCUMENT["paths"]) == {
        "/health", "/metrics", "/v1/account/limits", "/v1/sandboxes", "/v1/sandboxes/{sandbox_id}",
        "/v1/sandboxes/events/stream", "/v1/sandboxes/{sandbox_id}/fork",
        "/v1/sandboxes/{sandbox_id}/metrics/stream", "/v1/sandboxes/{sandbox_id}/pause",
        "/v1/sandboxes/{sandbox_id}/resume", "/v1/sandboxes/{sandbox_id}/snapshot",
        "/v1/sandboxes/{sandbox_id}/start", "/v1/sandboxes/{sandbox_id}/stop", "/v1/templates/stream",
        "/v1/sandboxes/{sandbox_id}/timeout", "/v1/sandboxes/{sandbox_id}/token/refresh", "/v1/templates",
        "/v1/templates/build", "/v1/templates/build/{build_id}/logs", "/v1/templates/build/{build_id}/status",
        "/v1/templates/files/upload-link", "/v1/templates/{reference}", "/v1/uploads/{file_id}",
    }  # fmt: skip
    assert DOCUMENT["paths"]["/health"]["get"]["security"] == []
    assert DOCUMENT["paths"]["/v1/templates"]["get"]["security"] == [{"Bearer": []}, {"ApiKey": []}]
    assert "422" not in DOCUMENT["paths"]["/v1/sandboxes"]["get"]["responses"]
