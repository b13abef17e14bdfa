"""Reading what ``thaw build`` is given: a recipe in JSON or YAML, or a Dockerfile."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from thawbox.errors import ThawboxError
from thawbox.templates.dockerfile import parse_dockerfile

from .failure import Failure

_DOCKERFILE_NAME = re.compile(r"(?i)(.*\.)?(dockerfile|containerfile)(\..*)?")
_DOCKERFILE_START = re.compile(r"(?i)\A(?:\s*(?:#[^\n]*)?\n)*\s*(?:FROM|ARG)\s")


@dataclass(frozen=True, slots=True)
class Source:
    """A build request as it will be sent, but for the files of its COPY steps."""

    body: dict[str, Any]
    name: str
    warnings: tuple[str, ...] = ()


def read_source(
    file: str,
    text: str,
    *,
    name: str | None,
    update: bool,
    no_cache: bool,
    build_args: dict[str, str],
) -> Source:
    """The build request in ``text``, which was read from ``file``, with the command line's wishes on top.

    Raises:
        Failure: not a recipe, or not a Dockerfile that can be built here.
        click.UsageError: no name, or build arguments for something that is no Dockerfile.
    """
    warnings: tuple[str, ...] = ()
    if is_dockerfile(file, text):
        try:
            parsed = parse_dockerfile(text, build_args=build_args)
        except ThawboxError as error:
            raise Failure(f"{file}: {error.message}") from error
        body, warnings = dict(parsed.body), tuple(parsed.warnings)
    elif build_args:
        raise click.UsageError("--build-arg goes with a Dockerfile; a recipe has no ARG.")
    else:
        body = _recipe(file, text)
    if name is not None:
        key = "alias" if "alias" in body and "name" not in body else "name"
        body[key] = name
    called = body.get("name") or body.get("alias")
    if not called:
        raise click.UsageError("The template has no name: pass --name, or write a name into the recipe.")
    if update:
        body["update"] = True
    if no_cache:
        body["skipCache"] = True
    return Source(body, str(called), warnings)


def is_dockerfile(file: str, text: str) -> bool:
    """By the file's name; a name that says nothing: whether it starts with FROM or ARG."""
    path = Path(file)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        return False
    return bool(_DOCKERFILE_NAME.fullmatch(path.name) or _DOCKERFILE_START.match(text))


def _recipe(file: str, text: str) -> dict[str, Any]:
    try:
        # JSON first by name: its errors are better, and YAML is not quite a superset of it.
        body = json.loads(text) if file.lower().endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        where = " ".join(str(error).split())
        raise Failure(f"{file} is neither JSON nor YAML nor a Dockerfile: {where}") from error
    if not isinstance(body, dict):
        raise Failure(f"{file} holds no recipe: its top level should be a mapping with name and steps.")
    return body
