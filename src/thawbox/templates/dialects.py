"""Turns a build request in any dialect into one recipe.

Who speaks which: docs/reference/compatibility/templates-build.md#dialects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thawbox.errors import InvalidTemplate
from thawbox.settings import Settings

from . import fields, steps
from .recipe import AnyStep, CmdStep, ReadyCheck, ReadyKind, Recipe, RegistryCredentials

NO_FROM = "Template must start with a FROM step"
"""The published documentation's text, word for word."""
NO_FROM_IMAGE = 'from_image is required; name the base image, for example "from_image": "python:3.11"'

DEFAULTS = {"cpu": 2, "memory": 2048, "diskGB": 10}
"""The resources of a template whose request names none, as published."""

CREDENTIAL_KINDS = ("basic", "github", "gitlab", "ecr", "gcr")
MAX_READY_MS = 3_600_000
MAX_WARM = 50
"""The most modules that a recipe may list in ``warm``."""


def parse_recipe(body: object, *, settings: Settings) -> Recipe:
    """The recipe for ``body``, the decoded JSON of ``POST /v1/templates/build``.

    All dialects are understood, also mixed in one request. Unknown fields are ignored, and null counts as absent:
    clients send both. ``settings`` bounds resources and the number of steps.

    Raises:
        InvalidTemplate: anything is wrong; one sentence names the step, the field, the value and the remedy.
    """
    if not isinstance(body, dict):
        raise InvalidTemplate(
            f'The request body must be a JSON object like {{"alias": "…"}}, not {fields.quoted(body)}'
        )
    name = fields.agreed(body, ("name", "alias"), fields.template_name)
    if name is None:
        raise InvalidTemplate("alias is required; give the template a name in alias or name")
    listed = _listed_steps(body, settings)
    skip = fields.agreed(body, ("skipCache", "skip_cache"), fields.flag) or False
    base, skip_from = _base_image(body, listed)
    parsed = tuple(steps.parse_step(kind, raw, where) for kind, raw, where in listed if kind != "from")
    return Recipe(
        name=name,
        base_image=base,
        steps=parsed,
        first_number=2 if any(kind == "from" for kind, _, _ in listed) else 1,
        cpu=_cpu(body, settings),
        memory_mb=_amount(body, ("memory", "memory_mb"), 128, settings.max_memory_mb),
        disk_gb=_amount(body, ("diskGB", "disk_gb"), 1, settings.max_disk_gb),
        start_cmd=_start_cmd(body, parsed),
        ready=fields.agreed(body, ("readyCmd", "ready_cmd"), _ready),
        warm=fields.agreed(body, ("warm",), _warm) or (),
        kernel=fields.agreed(body, ("kernel",), fields.flag) or False,
        skip_cache=skip or skip_from,
        update=fields.agreed(body, ("update",), fields.flag) or False,
        credentials=fields.agreed(body, ("registry_credentials", "registryCredentials"), _credentials),
    )


def _listed_steps(body: Mapping[str, object], settings: Settings) -> list[tuple[str, dict[str, object], str]]:
    """For every step: its type in lower case, the step itself, and the words that begin its error messages."""
    raw_steps = body.get("steps")
    if raw_steps is None:
        return []
    if not isinstance(raw_steps, list):
        raise InvalidTemplate(f"steps must be a list, not {fields.quoted(raw_steps)}")
    if len(raw_steps) > settings.max_steps:
        raise InvalidTemplate(f"steps has {len(raw_steps)} entries; at most {settings.max_steps} are allowed")
    listed = []
    for number, raw in enumerate(raw_steps, start=1):
        if not isinstance(raw, dict):
            raise InvalidTemplate(
                f'Step {number} must be an object like {{"type": "run", …}}, not {fields.quoted(raw)}'
            )
        kind = raw.get("type")
        known = isinstance(kind, str) and kind.lower() in steps.STEP_TYPES
        if not known:
            problem = "type is missing" if kind is None else f"type {fields.quoted(kind)} is unknown"
            raise InvalidTemplate(f"Step {number}: {problem}; use one of {', '.join(steps.STEP_TYPES)}")
        listed.append((str(kind).lower(), raw, f"Step {number} ({str(kind).lower()}): "))
    return listed


def _base_image(
    body: Mapping[str, object], listed: list[tuple[str, dict[str, object], str]]
) -> tuple[str, bool]:
    """The base image, from any field that can name it, and whether its FROM step skips the cache."""
    named = fields.agreed(body, ("from_image", "base_image"), fields.image)
    froms = [(index, raw, where) for index, (kind, raw, where) in enumerate(listed) if kind == "from"]
    if len(froms) > 1:
        raise InvalidTemplate(f"{froms[1][2]}a template has one base image; remove this second FROM step")
    if not froms:
        if named is None:
            raise InvalidTemplate(NO_FROM if body.get("name") is None else NO_FROM_IMAGE)
        return named, False
    index, raw, where = froms[0]
    image = steps.parse_from(raw, where)
    if named is None and index > 0:
        raise InvalidTemplate(f"{NO_FROM}; move step {index + 1} to the front")
    if named is not None and named != image:
        raise InvalidTemplate(
            f"{where}image {fields.quoted(image)} differs from from_image {fields.quoted(named)}; "
            "send only one of them"
        )
    return image, steps.skip_cache(raw, where)


def _cpu(body: Mapping[str, object], settings: Settings) -> int:
    """Whole cores, from ``cpu`` or from ``cpu_milli`` rounded up."""
    cpu = fields.agreed(body, ("cpu",), lambda value, what: fields.whole(value, what, 1, settings.max_cpu))
    milli = fields.agreed(
        body, ("cpu_milli",), lambda value, what: fields.whole(value, what, 0, settings.max_cpu * 1000)
    )
    cores = None if milli is None else max(1, -(-milli // 1000))
    if cpu is not None and cores is not None and cpu != cores:
        raise InvalidTemplate("cpu and cpu_milli differ; send only one of them")
    return cpu or cores or min(DEFAULTS["cpu"], settings.max_cpu)


def _amount(body: Mapping[str, object], names: tuple[str, ...], low: int, high: int) -> int:
    found = fields.agreed(body, names, lambda value, what: fields.whole(value, what, low, high))
    # An operator may allow less than the default.
    return found if found is not None else min(DEFAULTS[names[0]], high)


def _start_cmd(body: Mapping[str, object], parsed: tuple[AnyStep, ...]) -> str | None:
    """The start command: the field's, else that of the last CMD step. Blank text counts as absent."""
    named = fields.agreed(body, ("startCmd", "start_cmd"), fields.text)
    if named and named.strip():
        return named
    commands = [step.command for step in parsed if isinstance(step, CmdStep)]
    return commands[-1] if commands else None


def _ready(value: object, what: str) -> ReadyCheck:
    """A ready check; plain text is a command."""
    if isinstance(value, str):
        return ReadyCheck(kind=ReadyKind.COMMAND, target=fields.filled(value, what))
    if not isinstance(value, dict):
        raise InvalidTemplate(
            f'{what} must be an object like {{"type": "port", "port": 8000}}, not {fields.quoted(value)}'
        )
    kind = value.get("type")
    if not isinstance(kind, str) or kind.lower() not in set(ReadyKind):
        problem = "is missing" if kind is None else f"{fields.quoted(kind)} is unknown"
        raise InvalidTemplate(f"{what}.type {problem}; use one of {', '.join(ReadyKind)}")
    ready = ReadyKind(kind.lower())
    times: dict[str, Any] = {}
    for name in ("timeout", "interval"):
        if value.get(name) is not None:
            times[f"{name}_ms"] = fields.whole(value[name], f"{what}.{name}", 1, MAX_READY_MS)
    return ReadyCheck(kind=ready, target=_ready_target(ready, value, what), **times)


def _ready_target(kind: ReadyKind, value: Mapping[str, object], what: str) -> str:
    names = {
        ReadyKind.PORT: ("port",),
        ReadyKind.URL: ("url",),
        ReadyKind.FILE: ("path",),
        ReadyKind.PROCESS: ("processName", "process_name", "name"),
        ReadyKind.COMMAND: ("command",),
    }[kind]
    found = fields.present(value, *names)
    if found is None:
        raise InvalidTemplate(f"{what}.{names[0]} is missing; a {kind} check needs it")
    field, target = f"{what}.{found[0]}", found[1]
    match kind:
        case ReadyKind.PORT:
            return str(fields.whole(target, field, 1, 65535))
        case ReadyKind.URL:
            return fields.url(target, field)
        case ReadyKind.FILE:
            return fields.path(target, field)
        case ReadyKind.PROCESS:
            return fields.filled(target, field, max_bytes=fields.MAX_NAME_BYTES)
        case ReadyKind.COMMAND:
            return fields.filled(target, field)


def _warm(value: object, what: str) -> tuple[str, ...]:
    """Names of Python modules, each once, in the order in which they are imported."""
    names = fields.texts(value, what, most=MAX_WARM)
    return tuple(dict.fromkeys(fields.module(name, f"{what}[{at}]") for at, name in enumerate(names)))


def _credentials(value: object, what: str) -> RegistryCredentials:
    """How to log in at the registry. Error messages show no value except the type."""
    if not isinstance(value, dict):
        raise InvalidTemplate(
            f'{what} must be an object like {{"type": "basic", "username": "…", "password": "…"}}'
        )
    kind = value.get("type")
    if not isinstance(kind, str) or kind.lower() not in CREDENTIAL_KINDS:
        problem = "is missing" if kind is None else f"{fields.quoted(kind)} is unknown"
        raise InvalidTemplate(f"{what}.type {problem}; use one of {', '.join(CREDENTIAL_KINDS)}")
    username, password, token = (
        _secret(value.get(key), f"{what}.{key}") for key in ("username", "password", "token")
    )
    if kind.lower() == "basic" and not (username and password):
        raise InvalidTemplate(f"{what} of type basic needs username and password; send both")
    if not (password or token):
        raise InvalidTemplate(f"{what} of type {kind.lower()} needs a token or a password; send one")
    return RegistryCredentials(kind=kind.lower(), username=username, password=password, token=token)


def _secret(value: object, what: str) -> str | None:
    if value is None:
        return None
    try:
        return fields.text(value, what, max_bytes=64 * 1024)
    except InvalidTemplate:
        raise InvalidTemplate(
            f"{what} must be text without NUL bytes, at most 64 KiB; its value is not shown"
        ) from None
