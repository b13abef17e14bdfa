"""The documents of a registry: index, manifest, config (OCI image specification and Docker schema 2).

All of them are hostile input.
"""

from __future__ import annotations

import json
import platform
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from .values import PATH, ImageConfig, SourceFailure

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MOST_LAYERS = 500

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class Platform(BaseModel):
    """The operating system and processor that an image is for."""

    os: str = ""
    architecture: str = ""


class Descriptor(BaseModel):
    """Reference to a document or a layer. ``size`` is in bytes, compressed."""

    digest: Digest
    size: int = Field(ge=0)
    platform: Platform | None = None


class Manifest(BaseModel):
    """One image for one platform."""

    config: Descriptor
    layers: list[Descriptor] = Field(max_length=_MOST_LAYERS)


class _Index(BaseModel):
    manifests: list[Descriptor]


class _RunConfig(BaseModel):
    Env: list[str] | None = None
    WorkingDir: str | None = None
    User: str | None = None
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None


class _Config(BaseModel):
    os: str = "linux"
    architecture: str = ""
    config: _RunConfig | None = None


def architecture() -> str:
    """This machine's architecture by its name in registries and Debian: ``amd64``, ``arm64`` …"""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def choose(document: bytes) -> str | None:
    """The digest of this machine's manifest in an index; None if ``document`` is a manifest.

    Raises:
        SourceFailure: it has no image for this machine, or is neither an index nor a manifest.
    """
    parsed = _json(document)
    if "manifests" not in parsed:
        read_manifest(document)
        return None
    try:
        index = _Index.model_validate(parsed)
    except ValidationError as error:
        raise _damaged("index", error) from None
    offered = [entry for entry in index.manifests if entry.platform]
    for entry in offered:
        if entry.platform == Platform(os="linux", architecture=architecture()):
            return entry.digest
    names = sorted(
        {f"{entry.platform.os}/{entry.platform.architecture}" for entry in offered if entry.platform}
    )
    raise SourceFailure(
        f"the image has no version for linux/{architecture()}, only for {', '.join(names)[:300] or 'nothing'}"
    )


def read_manifest(document: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        SourceFailure: it is not a manifest, or one of Docker's old schema 1.
    """
    parsed = _json(document)
    if parsed.get("schemaVersion") == 1:
        raise SourceFailure(
            "the image has a manifest of the old schema 1: push it again with a current client"
        )
    try:
        return Manifest.model_validate(parsed)
    except ValidationError as error:
        raise _damaged("manifest", error) from None


def read_config(document: bytes) -> ImageConfig:
    """Read an image's config.

    Raises:
        SourceFailure: it is not a config, or for another machine.
    """
    try:
        config = _Config.model_validate(_json(document))
    except ValidationError as error:
        raise _damaged("config", error) from None
    if config.os != "linux" or config.architecture not in ("", architecture()):
        raise SourceFailure(
            f"the image is for {config.os}/{config.architecture}, this machine is linux/{architecture()}"
        )
    run = config.config or _RunConfig()
    pairs = [entry.partition("=") for entry in run.Env or []]
    env = {name: value for name, _, value in pairs if name}
    env.setdefault("PATH", PATH)
    return ImageConfig(
        env=tuple(env.items()),
        workdir=run.WorkingDir or None,
        user=run.User or None,
        entrypoint=tuple(run.Entrypoint or ()),
        cmd=tuple(run.Cmd or ()),
    )


def _json(document: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise SourceFailure("the registry's answer is not a JSON object")
    return parsed


def _damaged(what: str, error: ValidationError) -> SourceFailure:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return SourceFailure(f"the image's {what} is damaged: {place}: {first['msg']}")
