"""Types that the image sources share: results and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FETCH_TIMEOUT_S = 3600
"""Time limit of a program that downloads or unpacks an image."""

Log = Callable[[str], None]
"""Writes one line to the build log."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Credentials(Protocol):
    """A login in a recipe (``templates.recipe.RegistryCredentials``)."""

    @property
    def kind(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def password(self) -> str | None: ...
    @property
    def token(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A base image, pinned to its content."""

    reference: str
    """Canonical name, with host and tag (or digest)."""
    digest: str
    """``sha256:…`` of the registry's manifest for this architecture, or of the bootstrap definition."""
    source: str
    """``registry`` or ``bootstrap``"""
    private: bool
    """Credentials were needed: it must not be shared with other organisations."""
    detail: str
    """One line for the build log."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How to run the image's programs: from its OCI config, or by definition for a bootstrapped one."""

    env: tuple[tuple[str, str], ...] = (("PATH", PATH),)
    workdir: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


class SourceFailure(Exception):
    """This source does not have the image; another one may.

    If ``final``, no other source may be tried, because that would hide an error that the owner must see, such as
    refused credentials or a damaged image.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
