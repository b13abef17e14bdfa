"""What code showed, as the answers of the sandbox API spell it. It comes from the guest: hostile.

What clients rely on: docs/reference/compatibility/execution.md#rich-results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .answers import RichFields, RichOutput

_KEYS = {
    "image/png": "png",
    "image/svg+xml": "svg",
    "text/html": "html",
    "text/markdown": "markdown",
    "application/json": "json",
    "application/vnd.dataframe+json": "dataframe",
}
OUTPUTS_MAX = 200
"""Most outputs of one execution; the rest is left out."""


@dataclass(frozen=True, slots=True)
class RichResults:
    """``keys``: the last output of each kind. ``outputs``: all of them, in order."""

    result: str | None
    keys: dict[str, Any]
    outputs: list[RichOutput]
    cut: bool
    """Whether something was left out."""

    def fields(self) -> RichFields:
        """Every flat key, null where there is nothing, and ``rich_outputs``."""
        return {
            "result": self.result,
            "png": self.keys.get("png"),
            "svg": self.keys.get("svg"),
            "html": self.keys.get("html"),
            "markdown": self.keys.get("markdown"),
            "json": self.keys.get("json"),
            "dataframe": self.keys.get("dataframe"),
            "rich_outputs": self.outputs,
        }


def read(data: bytes) -> RichResults:
    """Parse the lines that ``agent/python/run.py`` writes. A line that is not valid is left out, and sets ``cut``."""
    result: str | None = None
    keys: dict[str, Any] = {}
    outputs: list[RichOutput] = []
    cut = False
    for line in data.splitlines():
        bundle = _bundle(line)
        if bundle is None or len(outputs) >= OUTPUTS_MAX:
            cut = True
            continue
        kind, content = bundle
        if kind == "result":
            text = content.pop("text/plain", None)
            result = text if isinstance(text, str) else result
        for mime, value in content.items():
            if mime in _KEYS:
                keys[_KEYS[mime]] = value
                outputs.append({"type": mime, "format": _KEYS[mime], "data": value})
    return RichResults(result, keys, outputs, cut)


def _bundle(line: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        value = json.loads(line, parse_constant=_reject)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("kind") not in ("result", "display"):
        return None
    data = value.get("data")
    if not isinstance(data, dict):
        return None
    checked = {mime: content for mime, content in data.items() if _is_valid(mime, content)}
    return value["kind"], checked


def _reject(name: str) -> Any:
    raise ValueError(name)


def _is_valid(mime: str, content: Any) -> bool:
    try:
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()  # half surrogates
    except (ValueError, RecursionError):
        return False
    return isinstance(content, str) or mime.endswith("json")
