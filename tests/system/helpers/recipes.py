"""Recipes of templates that the system tests build."""

from __future__ import annotations

from typing import Any

BASE = {"type": "from", "image": "debian:12"}


def run(command: str, **fields: Any) -> dict[str, Any]:
    return {"type": "run", "command": command, **fields}


def recipe(alias: str, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"alias": alias, "cpu": 1, "memory": 512, "diskGB": 2, "steps": [BASE, *steps], **fields}
