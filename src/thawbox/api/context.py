"""The services that the control plane uses. The server makes one ``ApiContext`` and passes it to ``create_app``."""

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
    """The context that the application was made with."""
    context: ApiContext = request.app.state.context
    return context


def caller_of(request: Request) -> KeyRow:
    """The API key of the request. Only for paths that need one: ``KeyMiddleware`` has checked it."""
    caller: KeyRow = request.state.caller
    return caller
