"""The fixed sets of words that columns hold. The database, the API and the command line show the values as they are."""

from __future__ import annotations

from enum import StrEnum


class SandboxStatus(StrEnum):
    """What a sandbox is doing. Which change may follow which status is in ``sandboxes.states``."""

    CREATING = "creating"
    """It has a row, and its agent does not answer yet."""
    RUNNING = "running"
    PAUSED = "paused"
    """Its programs are frozen: in memory, or on disk if the row names a folder (``SandboxRow.memory``)."""
    STOPPED = "stopped"
    """Its files are on disk; no program runs."""
    ERROR = "error"
    """It does not work any more; ``SandboxRow.reason`` says why."""


class BootPath(StrEnum):
    """How a sandbox came up, from the fastest way to the slowest; a fork is apart."""

    WARM = "warm"
    """Handed over thawed from a pool."""
    SHELL = "shell"
    """Thawed into a container that waited in a pool."""
    CREATED = "created"
    """Thawed into a new container."""
    COLD = "cold"
    """Booted from the image in a new container, because the snapshot does not restore."""
    FORK = "fork"
    """Thawed from a copy of another sandbox's memory."""


class TemplateStatus(StrEnum):
    """How far a template is."""

    BUILDING = "building"
    """A build waits or runs. With an older version, sandboxes can be created all the same."""
    ACTIVE = "active"
    FAILED = "failed"
    """Its newest build failed."""


class BuildStatus(StrEnum):
    """How far one attempt to build a template is. It ends as active or failed."""

    QUEUED = "queued"
    BUILDING = "building"
    ACTIVE = "active"
    FAILED = "failed"


class UploadKind(StrEnum):
    """What an upload holds."""

    ARCHIVE = "archive"
    """The files of a COPY step, packed."""
    FILE = "file"
    """One file."""
