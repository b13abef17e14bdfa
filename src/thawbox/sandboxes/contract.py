"""The interface between the HTTP planes and the sandbox service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from thawbox.guest import Endpoint
from thawbox.store.sandboxes import SandboxRow
from thawbox.store.templates import TemplateRow


@dataclass(frozen=True, slots=True)
class SandboxDefaults:
    """How programs are started in a sandbox if the request does not say it; from the sandbox's template."""

    workdir: str
    """Absolute path; ``/`` if the template names none."""
    user: str | None
    """None: root."""


class Sandboxes(Protocol):
    """Sandboxes of this node. All methods may be called at any time and concurrently."""

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
        """Create a sandbox of ``template``; return when it is ``running`` and its agent answers.

        ``timeout_seconds`` None: it has no end. ``public_ports``: ports that answer without a token; True: all.
        Until it is running, its row may be visible as ``creating``. If this raises or is cancelled, nothing of the
        sandbox is left.

        Raises:
            TemplateNotReady: the template has no version yet.
            Forbidden: the organisation has ``max_sandboxes`` already; ``details`` has limit, current and
                available.
            NoCapacity: the node is full.
            RuntimeFault, GuestFault: it did not start.
        """
        ...

    async def pause(self, sandbox: SandboxRow) -> SandboxRow:
        """Freeze the sandbox with its memory; a paused one stays as it is. The time until it expires goes on.

        This method and the next three: concurrent calls for one sandbox run one after the other, and each returns
        the row as it is then.

        Raises:
            InvalidState: it is neither running nor paused.
            SandboxNotFound: it was deleted before this was done.
            RuntimeFault: it did not work; the sandbox is as it was.
        """
        ...

    async def resume(self, sandbox: SandboxRow) -> SandboxRow:
        """Resume a paused sandbox; a running one stays as it is.

        Raises:
            InvalidState: it is neither; or its memory cannot be restored: then it is in error, and its row says why.
            SandboxNotFound: it was deleted before this was done.
            NoCapacity, RuntimeFault: it did not work; the sandbox is still paused.
        """
        ...

    async def stop_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """End the sandbox's programs and keep its files; a stopped one stays as it is.

        Raises:
            InvalidState: it is in error.
            SandboxNotFound: it was deleted before this was done.
            NoCapacity, RuntimeFault, GuestFault: it did not work; the sandbox is still paused, or running.
        """
        ...

    async def start_sandbox(self, sandbox: SandboxRow) -> SandboxRow:
        """Start a stopped sandbox with its files, and run its template's start command; a running one stays.

        Raises:
            InvalidState: it is neither; or its start command fails: then it is stopped again.
            SandboxNotFound: it was deleted before this was done.
            NoCapacity, RuntimeFault: it did not work; the sandbox is still stopped.
        """
        ...

    async def fork(
        self, sandbox: SandboxRow, count: int, *, env: Mapping[str, str], timeout_seconds: int | None
    ) -> list[SandboxRow]:
        """Make ``count`` running copies of a running or paused sandbox, with ``env`` added to its environment.

        All copies come up, or none is left. The source stays as it is.

        Raises:
            InvalidState: the source is neither running nor paused.
            Forbidden: the organisation may not have that many more sandboxes.
            SandboxNotFound: the source, or a copy, was deleted meanwhile.
            NoCapacity, RuntimeFault: it did not work; no copy is left.
        """
        ...

    async def save(self, sandbox: SandboxRow, name: str, description: str) -> TemplateRow:
        """Make an active template, in the sandbox's organisation, of the running or paused sandbox as it is now.

        Raises:
            AliasExists: the organisation has a template of that name.
            InvalidState: the sandbox is neither running nor paused.
            SandboxNotFound: it was deleted meanwhile.
            NoCapacity, RuntimeFault, GuestFault: it did not work; there is no template.
        """
        ...

    async def delete(self, sandbox: SandboxRow) -> None:
        """End the sandbox, whatever state it is in, and remove its row; return when it no longer answers.

        Raises:
            SandboxNotFound: it was deleted already, or another request is deleting it.
        """
        ...

    async def endpoint(self, sandbox: SandboxRow) -> Endpoint:
        """Where the sandbox's agent listens, and its secret. Cheap: called for every request at the gateway.

        Raises:
            SandboxPaused, SandboxStopped: it is paused, or stopped.
            SandboxEnded: it is in error.
            SandboxUnavailable: it is being created.
        """
        ...

    async def defaults(self, sandbox: SandboxRow) -> SandboxDefaults:
        """Working folder and user of programs whose request names none. Cheap, as ``endpoint``."""
        ...
