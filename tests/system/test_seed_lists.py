"""The examples of the page on listing templates; see ``helpers/examples.py``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .helpers.examples import TEMPLATE, Shell, needs_curl_and_jq, same_shape, shell

__all__ = ["shell"]

pytestmark = needs_curl_and_jq

ITEM = {
    name: TEMPLATE[name]
    for name in (
        "id",
        "name",
        "display_name",
        "description",
        "category",
        "language",
        "is_public",
        "is_active",
        "default_resources",
    )
}

LIST = r"""
curl https://api.hopx.dev/v1/templates \
  -H "Authorization: Bearer $HOPX_API_KEY"
"""
BY_CATEGORY = r"""
curl "https://api.hopx.dev/v1/templates?category=python" \
  -H "Authorization: Bearer $HOPX_API_KEY"
"""
BY_LANGUAGE = r"""
curl "https://api.hopx.dev/v1/templates?language=javascript" \
  -H "Authorization: Bearer $HOPX_API_KEY"
"""


def test_list(shell: Shell) -> None:
    status, answer = shell.ask(LIST)
    assert status == 200
    assert set(answer) == {"object", "data", "has_more", "url", "request_id"}
    assert (answer["object"], answer["has_more"], answer["url"]) == ("list", False, "/v1/templates")
    names = [item["name"] for item in answer["data"]]
    assert {"code-interpreter", "my-custom-template"} <= set(names)
    for item in answer["data"]:
        same_shape(ITEM, item)
    own = [item for item in answer["data"] if not item["is_public"]]
    assert {item["category"] for item in own} == {"custom"}


@pytest.mark.parametrize(
    ("example", "field", "value"),
    [(BY_CATEGORY, "category", "python"), (BY_LANGUAGE, "language", "javascript")],
)
def test_filters(shell: Shell, example: str, field: str, value: str) -> None:
    everything = shell.ask(LIST)[1]["data"]
    status, answer = shell.ask(example)
    assert status == 200
    assert answer["data"] == [item for item in everything if item[field] == value]
    custom = shell.ask(BY_CATEGORY.replace("python", "custom"))[1]["data"]
    assert custom == [item for item in everything if item["category"] == "custom"] != []


def test_list_needs_a_key(shell: Shell) -> None:
    status, answer = Shell(shell.server, "").ask(LIST)
    assert (status, answer["error"]) == (401, "Unauthorized")


def objects(text: str) -> list[Any]:
    """The JSON values that jq printed one after the other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_use_cases(shell: Shell) -> None:
    everything = shell.ask(LIST)[1]["data"]
    python = shell.run(
        r"""
curl "https://api.hopx.dev/v1/templates?category=python" \
  -H "Authorization: Bearer $HOPX_API_KEY" | jq '.data[]'
"""
    )
    assert objects(python) == [item for item in everything if item["category"] == "python"]
    custom = shell.run(
        r"""
curl https://api.hopx.dev/v1/templates \
  -H "Authorization: Bearer $HOPX_API_KEY" | \
  jq '.data[] | select(.is_public == false)'
"""
    )
    assert objects(custom) == [item for item in everything if not item["is_public"]] != []
    by_name = shell.run(
        r"""
curl https://api.hopx.dev/v1/templates \
  -H "Authorization: Bearer $HOPX_API_KEY" | \
  jq '.data[] | select(.name == "code-interpreter") | .id'
"""
    )
    assert objects(by_name) == [item["id"] for item in everything if item["name"] == "code-interpreter"]
    resources = shell.run(
        r"""
curl https://api.hopx.dev/v1/templates \
  -H "Authorization: Bearer $HOPX_API_KEY" | \
  jq '.data[] | {name: .name, resources: .default_resources}'
"""
    )
    assert objects(resources) == [
        {"name": item["name"], "resources": item["default_resources"]} for item in everything
    ]
