"""Reads the input of ``thaw build``: a recipe in JSON or YAML, or a Dockerfile."""

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
    """A build request as it will be sent, except for the hashes of the files of its COPY steps."""

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
    """The build request in ``text``, which was read from ``file``, with the options of the command line applied.

    Raises:
        Failure: the text is not a recipe, or is a Dockerfile that cannot be built.
        click.UsageError: the template has no name, or there are build arguments but no Dockerfile.
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
    template = body.get("name") or body.get("alias")
    if not template:
        raise click.UsageError("The template has no name: pass --name, or write a name into the recipe.")
    if update:
        body["update"] = True
    if no_cache:
        body["skipCache"] = True
    return Source(body, str(template), warnings)


def is_dockerfile(file: str, text: str) -> bool:
    """Whether it is a Dockerfile: by the file's name, else by whether the text starts with FROM or ARG."""
    path = Path(file)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        return False
    return bool(_DOCKERFILE_NAME.fullmatch(path.name) or _DOCKERFILE_START.match(text))


def _recipe(file: str, text: str) -> dict[str, Any]:
    try:
        # A .json file is read as JSON: the error messages are better, and YAML is not quite a superset of JSON.
        body = json.loads(text) if file.lower().endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        where = " ".join(str(error).split())
        raise Failure(f"{file} is neither JSON nor YAML nor a Dockerfile: {where}") from error
    if not isinstance(body, dict):
        raise Failure(f"{file} is not a recipe: its top level must be a mapping with name and steps.")
    return body
