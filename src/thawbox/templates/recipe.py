"""The recipe: the one frozen value that every build request becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all steps share."""

    skip_cache: bool = False
    """Run this step and all steps after it, even if the cache has their layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(Step):
    """A shell command line, run with ``/bin/sh -c`` (bash if the image has it)."""

    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AptStep(Step):
    """Debian packages to install."""

    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(Step):
    """Files of an upload, placed as Docker's COPY places them."""

    sources: tuple[str, ...]
    dest: str
    files_hash: str | None = None
    """64 hex digits that name the uploaded archive; None: ``sources`` name uploaded files, by path or file id."""
    owner: str | None = None
    """``user``, ``user:group``, ``uid:gid``; None: root."""
    permissions: int | None = None
    """Mode bits for everything copied; None: as in the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvStep(Step):
    """Environment variables of this template, for all later steps and for sandboxes."""

    variables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(Step):
    """The working folder of later steps and sandboxes; created if missing. A relative path is below the one before."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStep(Step):
    """The user of later steps and of sandboxes: ``name``, ``uid``, ``name:group`` or ``uid:gid``."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CmdStep(Step):
    """The start command, unless the recipe has one in a field of its own."""

    command: str


AnyStep = RunStep | AptStep | CopyStep | EnvStep | WorkdirStep | UserStep | CmdStep


class ReadyKind(StrEnum):
    """What a ready check looks at to find out that the start command is up."""

    PORT = "port"
    URL = "url"
    FILE = "file"
    PROCESS = "process"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCheck:
    """A check that is repeated until the start command is up.

    ``target`` is the port number, URL, path, process name or command line, depending on ``kind``. The build fails
    after ``timeout_ms``; ``interval_ms`` lies between two attempts.
    """

    kind: ReadyKind
    target: str
    timeout_ms: int = 30_000
    interval_ms: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCredentials:
    """How to log in at the registry of the base image. It is never logged, and is not part of the recipe's JSON."""

    kind: str
    """basic, github, gitlab, ecr or gcr"""
    username: str | None = None
    password: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"RegistryCredentials(kind={self.kind!r}, …)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A build request after it was checked and normalised. Resources: whole cores, MB of RAM, GB of disk."""

    name: str
    base_image: str
    steps: tuple[AnyStep, ...] = ()
    first_number: int = 1
    """The author's number of ``steps[0]``: 2 if a FROM step stood before it."""
    cpu: int = 2
    memory_mb: int = 2048
    disk_gb: int = 10
    start_cmd: str | None = None
    ready: ReadyCheck | None = None
    warm: tuple[str, ...] = ()
    """Python modules that warm interpreters import before the freeze."""
    kernel: bool = False
    """Whether an IPython kernel is started before the freeze."""
    skip_cache: bool = False
    update: bool = False
    credentials: RegistryCredentials | None = None

    def numbered(self) -> Iterator[tuple[int, AnyStep]]:
        """The steps, each with the number that it has for its author."""
        return enumerate(self.steps, start=self.first_number)
