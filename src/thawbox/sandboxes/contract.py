"""What the HTTP planes may ask of the sandbox service, and what they get in half-started states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from thawbox.guest import Endpoint
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

    async def pause(self, sandbox: SandboxRow) -> SandboxRow:
        """Freeze it, memory and all; a paused one stays as it is. Its clock and its deadline go on.

        Of this and the next three: two at once are done one after the other, and the row that comes back is
        the newest.

        Raises:
            InvalidState: it neither runs nor is paused.
            SandboxNotFound: it was deleted before this was done.
            RuntimeFault: it did not work; it is as it was.
        """
        ...

    async def resume(self, sandbox: SandboxRow) -> SandboxRow:
        """Let a paused sandbox go on; a running one stays as it is.

        Raises:
            InvalidState: it is neither; or its memory cannot be restored, and then it is in error and says why.
            SandboxNotFound: it was deleted before this was done.
            NoCapacity, RuntimeFault: it did not work; it is paused still.
        """
        ...

    async def stop_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """End its programs and keep its files; a stopped one stays as it is.

        Raises:
            InvalidState: it is in error.
            SandboxNotFound: it was deleted before this was done.
            NoCapacity, RuntimeFault, GuestFault: it did not work; it is paused still, or runs.
        """
        ...

    async def start_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """Bring a stopped sandbox back with its files, and run its template's start command; a running one stays.

        Raises:
            InvalidState: it is neither; or its start command fails, and then it is stopped again.
            SandboxNotFound: it was deleted before this was done.
            NoCapacity, RuntimeFault: it did not work; it is stopped still.
        """
        ...

    async def fork(
        self, sandbox: SandboxRow, count: int, *, env: Mapping[str, str], timeout_seconds: int | None
    ) -> list[SandboxRow]:
        """``count`` running copies of a running or paused sandbox, with ``env`` on top of its environment.

        All or nothing; the source goes on.

        Raises:
            InvalidState: the source neither runs nor is paused.
            Forbidden: so many more sandboxes are not allowed.
            SandboxNotFound: the source, or a copy, was deleted meanwhile.
            NoCapacity, RuntimeFault: it did not work; no copy is left.
        """
        ...

    async def save(self, sandbox: SandboxRow, name: str, description: str) -> TemplateRow:
        """An active template of its organisation that is as the running or paused sandbox is now.

        Raises:
            AliasExists: the organisation has a template of that name.
            InvalidState: the sandbox neither runs nor is paused.
            SandboxNotFound: it was deleted meanwhile.
            NoCapacity, RuntimeFault, GuestFault: it did not work; there is no template.
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
            SandboxPaused, SandboxStopped, SandboxEnded: it is that.
            SandboxUnavailable: it is creating.
        """
        ...

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """Working folder and user of programs that name none. Cheap, as ``endpoint``."""
        ...
