"""The recipe: one frozen value for every way to ask for a template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all steps share."""

    skip_cache: bool = False
    """Run this step and all that follow it, whatever the cache holds."""


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
    """Files of an upload, placed as Docker's COPY would."""

    sources: tuple[str, ...]
    dest: str
    files_hash: str | None = None
    """Names the uploaded archive (SDK form); None: ``sources`` name uploaded files (path or file id)."""
    owner: str | None = None
    """``user``, ``user:group``, ``uid:gid``; None: root."""
    permissions: int | None = None
    """Mode bits for everything copied; None: as in the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvStep(Step):
    """Environment variables from here on."""

    variables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(Step):
    """The working folder from here on; created if missing. Relative paths build on the one before."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStep(Step):
    """The user from here on: ``name``, ``uid``, ``name:group`` or ``uid:gid``."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CmdStep(Step):
    """The start command, unless the recipe names one itself."""

    command: str


AnyStep = RunStep | AptStep | CopyStep | EnvStep | WorkdirStep | UserStep | CmdStep


class ReadyKind(StrEnum):
    """How to find out that the start command is up."""

    PORT = "port"
    URL = "url"
    FILE = "file"
    PROCESS = "process"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCheck:
    """``target`` is the port number, url, path, process name or command line, by ``kind``."""

    kind: ReadyKind
    target: str
    timeout_ms: int = 30_000
    interval_ms: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCredentials:
    """How to log in where the base image lives. Never logged, never in the recipe's JSON."""

    kind: str
    """basic, github, gitlab, ecr or gcr"""
    username: str | None = None
    password: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"RegistryCredentials(kind={self.kind!r}, …)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A build request, normalised and checked."""

    name: str
    base_image: str
    steps: tuple[AnyStep, ...] = ()
    first_number: int = 1
    """What the author counts ``steps[0]`` as: 2 if a FROM step stood before it."""
    cpu: int = 2
    memory_mb: int = 2048
    disk_gb: int = 10
    start_cmd: str | None = None
    ready: ReadyCheck | None = None
    warm: tuple[str, ...] = ()
    """Python modules that are imported before the freeze, in interpreters that wait for code."""
    kernel: bool = False
    """Whether an IPython kernel is started before the freeze."""
    skip_cache: bool = False
    update: bool = False
    credentials: RegistryCredentials | None = None

    def numbered(self) -> Iterator[tuple[int, AnyStep]]:
        """The steps with the numbers that their author knows them by."""
        return enumerate(self.steps, start=self.first_number)
