"""Types of the model fields and query parameters that hold a status.

They are literals, because the OpenAPI document then lists the values at the field. An enum would become a component.
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
"""The statuses that pause, resume, stop and start lead to."""
AnyBootPath = Literal[BootPath.WARM, BootPath.SHELL, BootPath.CREATED, BootPath.COLD, BootPath.FORK]
AnyTemplateStatus = Literal[TemplateStatus.BUILDING, TemplateStatus.ACTIVE, TemplateStatus.FAILED]
"""Also the status of a build: for clients, a queued build is building."""
StatusFilter = Literal["creating", "running", "paused", "stopped", "error"]
"""For a query parameter. Plain texts, because the error message of a literal shows its values as written here."""
