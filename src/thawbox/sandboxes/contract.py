"""What the HTTP planes may ask of the sandbox service, and what they get in half-started states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from thawbox.guest.client import Endpoint
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow


@dataclass(frozen=True, slots=True)
class SandboxDefaults:
    """What a sandbox's template says about programs that are started in it."""

    workdir: str
    """Absolute path; ``/`` if the template names none."""
    user: str | None
    """None: root."""


class Sandboxes(Protocol):
    """Sandboxes of this node. All methods may be called at any time and side by side."""

    async def create(
        self,
        organization_id: int,
        template: TemplateRow,
        *,
        env: Mapping[str, str],
        timeout_seconds: int | None,
        internet_access: bool,
        live: bool,
        public_ports: tuple[int, ...] | bool = (),
    ) -> SandboxRow:
        """A new sandbox of ``template``; returns when it is ``running`` and its agent answers.

        Until then its row may be visible as ``creating``. If this raises or is cancelled, nothing of the
        sandbox is left.

        Raises:
            TemplateNotReady: the template has nothing to boot yet.
            Forbidden: the organisation has ``max_sandboxes`` already; ``details`` has limit, current and
                available.
            NoCapacity: the node is full.
            RuntimeFault, GuestFault: it did not start.
        """
        ...

    async def delete(self, sandbox: SandboxRow) -> None:
        """End it, whatever state it is in, and remove its row; returns when nothing answers any more.

        Raises:
            SandboxNotFound: it is gone already, or somebody else is just deleting it.
        """
        ...

    async def endpoint(self, sandbox: SandboxRow) -> Endpoint:
        """Where the agent inside listens, and its secret. Cheap: it is asked for every gateway request.

        Raises:
            SandboxUnavailable: it is creating, paused, stopped or in error.
        """
        ...

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """Working folder and user of programs that name none. Cheap, as ``endpoint``."""
        ...
