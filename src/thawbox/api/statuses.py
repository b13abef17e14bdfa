"""The statuses that answers and queries hold, as types of model fields.

Spelled out, because a schema lists a literal's values where they are; an enum would become a component of its own.
"""

from __future__ import annotations

from typing import Literal

from thawbox.store.enums import BootPath, SandboxStatus, TemplateStatus

AnySandboxStatus = Literal[
    SandboxStatus.CREATING,
    SandboxStatus.RUNNING,
    SandboxStatus.PAUSED,
    SandboxStatus.STOPPED,
    SandboxStatus.ERROR,
]
SettledStatus = Literal[SandboxStatus.RUNNING, SandboxStatus.PAUSED, SandboxStatus.STOPPED]
"""What a change of state leads to."""
AnyBootPath = Literal[BootPath.WARM, BootPath.SHELL, BootPath.CREATED, BootPath.COLD, BootPath.FORK]
AnyTemplateStatus = Literal[TemplateStatus.BUILDING, TemplateStatus.ACTIVE, TemplateStatus.FAILED]
"""Of a build as well: to clients one that is queued is building, too."""
StatusFilter = Literal["creating", "running", "paused", "stopped", "error"]
"""For a query, as plain words: the error of a literal shows its values as they are written here."""
