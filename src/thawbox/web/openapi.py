"""The parts of the OpenAPI document that many operations share."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from .errors import ErrorEnvelope

Responses = dict[int | str, dict[str, Any]]

_TEXTS = {
    400: "The request is not valid; `message` names the field.",
    401: "No API key, or one that is unknown or revoked.",
    403: "Known, but not allowed.",
    408: "Time was over.",
    404: "Unknown, or of another organisation.",
    405: "This path does not take this method.",
    409: "Not in this state.",
    413: "More bytes than this server accepts.",
    416: "The range is not in the file.",
    429: "Too often; `retry_after` says how many seconds to wait.",
    500: "A fault of the server; its log has the reason under the request id.",
    503: "Not possible now; try again later.",
}
_HEADERS = {
    "X-Request-ID": {"description": "Also `request_id` in the body.", "schema": {"type": "string"}},
    "X-RateLimit-Limit": {"description": "Requests per minute.", "schema": {"type": "integer"}},
    "X-RateLimit-Remaining": {"description": "Left in this window.", "schema": {"type": "integer"}},
    "X-RateLimit-Reset": {"description": "Unix seconds.", "schema": {"type": "integer"}},
}


def errors(*statuses: int) -> Responses:
    """Error answers of an operation that needs a key: these, and 400, 401, 429, 500."""
    return _envelopes({400, 401, 429, 500, *statuses})


def open_errors(*statuses: int) -> Responses:
    """Error answers of an operation that needs no key: exactly these."""
    return _envelopes(set(statuses))


def body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of an operation that reads its JSON body itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema(model)}}}}


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model`` with nested models written out in place."""
    whole = model.model_json_schema()
    definitions = whole.pop("$defs", {})
    inlined: dict[str, Any] = _inline(whole, definitions)
    return inlined


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inline(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {key: _inline(item, definitions) for key, item in node.items()}


def describe(
    app: FastAPI, *, schemes: dict[str, Any], public: set[str], everywhere: tuple[int, ...] = ()
) -> None:
    """Let ``app`` document what its middleware does: keys (unless the path is in ``public``) and headers.

    ``everywhere``: statuses of error answers that any operation can give.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            _complete(app.openapi_schema, schemes, public, everywhere)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(
    document: dict[str, Any], schemes: dict[str, Any], public: set[str], everywhere: tuple[int, ...]
) -> None:
    document.setdefault("components", {})["securitySchemes"] = schemes
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in public else [{name: []} for name in schemes]
            operation["responses"].pop("422", None)  # the framework's; invalid input is 400 here
            for status in everywhere:
                operation["responses"].setdefault(str(status), _envelope(status))
            for answer in operation["responses"].values():
                answer["headers"] = {**_HEADERS, **answer.get("headers", {})}
    schemas = document["components"].setdefault("schemas", {})
    schemas.setdefault("ErrorEnvelope", schema(ErrorEnvelope))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _envelope(status: int) -> dict[str, Any]:
    return {
        "description": _TEXTS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
    }


def _envelopes(statuses: set[int]) -> Responses:
    return {status: {"model": ErrorEnvelope, "description": _TEXTS[status]} for status in sorted(statuses)}
