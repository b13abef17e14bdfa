"""What the sources give back and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FETCH_TIMEOUT_S = 3600
"""Until a program that downloads or unpacks an image is given up."""

Log = Callable[[str], None]
"""Takes one line for the build log."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Credentials(Protocol):
    """A login as a recipe carries it (``templates.recipe.RegistryCredentials``)."""

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
    """A base image pinned to what went into it."""

    reference: str
    """Canonical name, with host and tag (or digest)."""
    digest: str
    """``sha256:…``: of the registry's manifest for this architecture, or over the bootstrap definition."""
    source: str
    """``registry`` or ``bootstrap``"""
    private: bool
    """Credentials were used to get it: must not be shared with other organisations."""
    detail: str
    """One line for the build log."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the image says about running it; from the OCI config, or what fits a bootstrapped one."""

    env: tuple[tuple[str, str], ...] = (("PATH", PATH),)
    workdir: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


class SourceFailure(Exception):
    """This source cannot deliver the image; another one may.

    ``final`` says that no other source should be asked: going on would hide a mistake that the owner must see
    (refused credentials, an image that is damaged).
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
