"""What the control plane works with; one value, made by the server, handed to ``create_app``."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from thawbox.builder.contract import Builder
from thawbox.sandboxes.contract import SandboxDefaults, Sandboxes
from thawbox.sandboxes.events import Events
from thawbox.sandboxes.serving import ServingContext
from thawbox.store.keys import KeyRow

__all__ = ["ApiContext", "Builder", "SandboxDefaults", "Sandboxes", "caller_of", "context_of"]


@dataclass(frozen=True)
class ApiContext(ServingContext):
    """The services behind the control plane."""

    builder: Builder
    events: Events = field(default_factory=Events)


def context_of(request: Request) -> ApiContext:
    """The context that the app was made with."""
    context: ApiContext = request.app.state.context
    return context


def caller_of(request: Request) -> KeyRow:
    """The key that the request came with; only below paths that need one."""
    caller: KeyRow = request.state.caller
    return caller
