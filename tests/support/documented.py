"""Compares the gateway's answers with the models in its OpenAPI document, to the letter."""

from __future__ import annotations

import functools
import re
from typing import Any

import httpx
import jsonschema_rs

from thawbox.gateway.app import create_gateway
from thawbox.sandboxes.serving import ServingContext
from thawbox.settings import load


@functools.cache
def document() -> dict[str, Any]:
    """The gateway's OpenAPI document."""
    return create_gateway(ServingContext(load(), None, None, None)).openapi()  # type: ignore[arg-type]


@functools.cache
def models() -> dict[tuple[str, str], str]:
    """The name of the model of each operation that has one, by method and path."""
    found = {}
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            content = operation["responses"].get("200", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref")
            if reference is not None:
                found[method.upper(), path] = reference.rpartition("/")[2]
    return found


def operation_of(method: str, path: str) -> tuple[str, str] | None:
    """The documented operation with a model that serves ``path``; None if there is none."""
    if (method, path) in models():
        return method, path
    for known, template in models():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if known == method and re.fullmatch(pattern, path):
            return known, template
    return None


async def check(answer: httpx.Response) -> None:
    """A response hook: a success must have every field of its model, and no other.

    Raises:
        ValidationError: it differs.
    """
    operation = operation_of(answer.request.method, answer.request.url.path)
    if answer.status_code == 200 and operation is not None:
        await answer.aread()
        _validator(models()[operation]).validate(answer.json())


@functools.cache
def _validator(model: str) -> Any:
    schemas = {name: _closed(schema) for name, schema in document()["components"]["schemas"].items()}
    return jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{model}", "components": {"schemas": schemas}}
    )


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` without room for fields that it does not name."""
    return {**schema, "additionalProperties": False} if "properties" in schema else schema
