"""Recipes as JSON, to store them and to identify steps in cache keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

from .recipe import (
    AnyStep,
    AptStep,
    CmdStep,
    CopyStep,
    EnvStep,
    ReadyCheck,
    ReadyKind,
    Recipe,
    RegistryCredentials,
    RunStep,
    UserStep,
    WorkdirStep,
)

FORMAT = 1
"""Version of the stored form. ``recipe_from_json`` refuses every other version."""

_KINDS: dict[str, type[AnyStep]] = {
    "run": RunStep,
    "apt": AptStep,
    "copy": CopyStep,
    "env": EnvStep,
    "workdir": WorkdirStep,
    "user": UserStep,
    "cmd": CmdStep,
}
_NAMES = {cls: name for name, cls in _KINDS.items()}


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """``recipe`` as a JSON object, without its credentials."""
    ready = recipe.ready
    return {
        "format": FORMAT,
        "name": recipe.name,
        "base_image": recipe.base_image,
        "first_number": recipe.first_number,
        "steps": [_step_to_json(step) for step in recipe.steps],
        "cpu": recipe.cpu,
        "memory_mb": recipe.memory_mb,
        "disk_gb": recipe.disk_gb,
        "start_cmd": recipe.start_cmd,
        "ready": ready and {**_plain(ready), "kind": ready.kind.value},
        "warm": list(recipe.warm),
        "kernel": recipe.kernel,
        "skip_cache": recipe.skip_cache,
        "update": recipe.update,
    }


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """The recipe that ``recipe_to_json`` wrote; its credentials are None.

    Raises:
        ValueError: ``data`` has another version of the format.
    """
    if data.get("format") != FORMAT:
        raise ValueError(f"recipe of format {data.get('format')!r}, expected {FORMAT}")
    values = {key: value for key, value in data.items() if key != "format"}
    ready = values["ready"]
    values["steps"] = tuple(_step_from_json(step) for step in values["steps"])
    values["warm"] = tuple(values["warm"])
    values["ready"] = ready and ReadyCheck(**{**ready, "kind": ReadyKind(ready["kind"])})
    return Recipe(**values)


def credentials_to_json(credentials: RegistryCredentials) -> dict[str, Any]:
    """Credentials as a JSON object in clear text. The caller must encrypt it before it stores it."""
    return _plain(credentials)


def credentials_from_json(data: Mapping[str, Any]) -> RegistryCredentials:
    """The credentials that ``credentials_to_json`` wrote."""
    return RegistryCredentials(**data)


def canonical_step(step: AnyStep) -> str:
    """What ``step`` does, as one canonical JSON text, for cache keys.

    It leaves out whether the cache may be used, and the client's name for copied files. The caller adds the digest of
    the files' content to the key instead.
    """
    data = _step_to_json(step)
    data.pop("skip_cache")
    data.pop("files_hash", None)
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _step_to_json(step: AnyStep) -> dict[str, Any]:
    data = {"type": _NAMES[type(step)], **_plain(step)}
    for key in ("packages", "sources"):
        if key in data:
            data[key] = list(data[key])
    if isinstance(step, EnvStep):
        data["variables"] = [list(pair) for pair in step.variables]
    return data


def _step_from_json(data: Mapping[str, Any]) -> AnyStep:
    values = {key: value for key, value in data.items() if key != "type"}
    for key in ("packages", "sources"):
        if key in values:
            values[key] = tuple(values[key])
    if "variables" in values:
        values["variables"] = tuple((name, value) for name, value in values["variables"])
    return _KINDS[data["type"]](**values)


def _plain(value: AnyStep | ReadyCheck | RegistryCredentials) -> dict[str, Any]:
    """The fields of a flat frozen value."""
    return {field.name: getattr(value, field.name) for field in dataclass_fields(value)}
