"""The sandbox that a request or WebSocket is for: its record, its agent, and its template's defaults."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request

from thawbox.guest import Endpoint
from thawbox.sandboxes.contract import SandboxDefaults
from thawbox.sandboxes.serving import ServingContext
from thawbox.store.sandboxes import SandboxRow
from thawbox.web.bodies import M, read_model

from .context import context_of, sandbox_of

WORKSPACE = "/workspace"
"""Where relative paths start, and where programs start if the template names no folder."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running sandbox: ``endpoint`` is its agent's, ``defaults`` are its template's user and folder."""

    sandbox: SandboxRow
    endpoint: Endpoint
    defaults: SandboxDefaults

    @property
    def workdir(self) -> str:
        """The template's folder; the workspace if the template names none."""
        return self.defaults.workdir if self.defaults.workdir != "/" else WORKSPACE

    def folders(self, requested: str | None) -> list[str]:
        """Where a program may start, absolute, best first: the first that exists is meant.

        A ``requested`` folder has no alternative, nor has the template's; without both it is the workspace, else
        ``/``.
        """
        if requested:
            return [in_workspace(requested)]
        return [in_workspace(self.workdir)] if self.defaults.workdir != "/" else [WORKSPACE, "/"]


def in_workspace(path: str) -> str:
    """``path`` made absolute: a relative one starts in the workspace."""
    return path if path.startswith("/") else f"{WORKSPACE}/{path}"


async def target_of(connection: HTTPConnection) -> Target:
    """The running sandbox that a request or WebSocket is for.

    Raises:
        AuthenticationRequired, InvalidToken, SandboxNotFound: see ``sandbox_of``.
        SandboxUnavailable, InvalidState: it is not running.
    """
    return await _target(context_of(connection), await sandbox_of(connection))


async def parsed_request(request: Request, model: type[M]) -> tuple[Target, M]:
    """The sandbox and the body as ``model``. The body of a request without a valid token is not read.

    Raises:
        UserError: see ``read_model``. What ``target_of`` raises.
    """
    sandbox = await sandbox_of(request)
    context = context_of(request)
    body = await read_model(request, model, context.settings.max_body_bytes)
    return await _target(context, sandbox), body


async def _target(context: ServingContext, sandbox: SandboxRow) -> Target:
    service = context.sandboxes
    return Target(sandbox, await service.endpoint(sandbox), await service.defaults(sandbox))
