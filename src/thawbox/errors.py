"""Every error that a caller can meet, and how it looks over HTTP.

``ThawboxError`` is the root. What a user did wrong derives from ``UserError`` (4xx); what broke inside derives
from ``InternalFault`` (5xx). The class says the status, the code and the title (the string ``error``);
the instance says the one sentence that names field, value and remedy (``message``). Why they look so:
docs/reference/compatibility/conventions.md#errors.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ThawboxError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details) if details else None
        self.retry_after = retry_after
        """Whole seconds until it makes sense to come back; sent as ``retry_after`` and ``Retry-After``."""


class UserError(ThawboxError):
    """The caller can mend this."""

    status = 400
    code = "INVALID_REQUEST"
    title = "Invalid request"


class InvalidTemplate(UserError):
    """A build request that cannot be a recipe. The title is the published documentation's."""

    title = "Invalid template definition"


class Unauthorized(UserError):
    """No key or a wrong one. Title and default message are the published documentation's."""

    status = 401
    code = "INVALID_API_KEY"
    title = "Unauthorized"

    def __init__(self, message: str = "Invalid API key", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)


class AuthenticationRequired(Unauthorized):
    """Nothing was sent that could be a key."""

    code = "AUTHENTICATION_REQUIRED"


class InvalidToken(Unauthorized):
    """A sandbox token that is forged, expired or for another sandbox."""

    code = "INVALID_TOKEN"


class Forbidden(UserError):
    """Known to us, but not allowed."""

    status = 403
    code = "PERMISSION_DENIED"
    title = "Forbidden"


class NotFound(UserError):
    """Unknown, or of another organisation."""

    status = 404
    code = "RESOURCE_NOT_FOUND"
    title = "Not found"


class TemplateNotFound(NotFound):
    """Unknown, or of another organisation. The title is the published documentation's."""

    title = "Template not found"


class BuildNotFound(NotFound):
    """No such build."""

    title = "Build not found"


class SandboxNotFound(NotFound):
    """Unknown, deleted or expired."""

    title = "Sandbox not found"


class AliasExists(UserError):
    """The organisation has a template of this name. The title is the published documentation's."""

    status = 409
    code = "ALREADY_EXISTS"
    title = "Template alias already exists"


class TemplateInUse(UserError):
    """Sandboxes of this template are alive."""

    status = 409
    code = "TEMPLATE_IN_USE"
    title = "Template in use"


class TemplateNotReady(UserError):
    """A sandbox was asked of a template that has nothing to boot yet."""

    status = 409
    code = "TEMPLATE_NOT_READY"
    title = "Template not ready"


class InvalidState(UserError):
    """The sandbox is in a state that does not allow this."""

    status = 409
    code = "INVALID_STATE"
    title = "Invalid state"


class SandboxStopped(InvalidState):
    """It has files but no programs; coming back without starting it is of no use."""

    code = "SANDBOX_STOPPED"
    title = "Sandbox stopped"


class SandboxEnded(InvalidState):
    """It died, and no waiting brings it back: a 4xx, so that clients do not ask again."""

    code = "SANDBOX_ENDED"
    title = "Sandbox ended"


class SandboxSilent(UserError):
    """It was handed a request and has not said what became of it: a 4xx, so that clients do not repeat what may have
    run."""

    status = 409
    code = "SANDBOX_NOT_RESPONDING"
    title = "Sandbox not responding"


class TooLarge(UserError):
    """More bytes than a configured bound."""

    status = 413
    code = "INVALID_REQUEST"
    title = "Too large"


class RateLimited(UserError):
    """Too many requests or builds; ``retry_after`` says when to come back."""

    status = 429
    code = "RATE_LIMIT_EXCEEDED"
    title = "Rate limit exceeded"


class FileMissing(NotFound):
    """A path inside a sandbox that does not exist."""

    code = "FILE_NOT_FOUND"
    title = "File not found"


class InvalidPath(UserError):
    """A path inside a sandbox that is of the wrong kind."""

    code = "INVALID_PATH"
    title = "Invalid path"


class FolderMissing(FileMissing):
    """A folder inside a sandbox that does not exist."""

    code = "DIRECTORY_NOT_FOUND"
    title = "Directory not found"


class PathNotAllowed(Forbidden):
    """A path inside a sandbox that the operator has not opened (``file_roots``)."""

    code = "PATH_NOT_ALLOWED"
    title = "Path not allowed"


class DiskFull(UserError):
    """The sandbox's disk has no room. A 4xx, because trying again would not help."""

    status = 413
    code = "DISK_FULL"
    title = "Disk full"


class FileExists(UserError):
    """Asked not to overwrite, and it is there."""

    status = 409
    code = "FILE_ALREADY_EXISTS"
    title = "File already exists"


class InternalFault(ThawboxError):
    """Ours, not the caller's."""


class NoCapacity(InternalFault):
    """The node has no room for another sandbox."""

    status = 503
    code = "NO_NODES_AVAILABLE"
    title = "No capacity"


class SandboxUnavailable(InternalFault):
    """The sandbox does not answer (starting, paused or dead)."""

    status = 503
    code = "SERVICE_UNAVAILABLE"
    title = "Sandbox unavailable"


class SandboxPaused(SandboxUnavailable):
    """Its programs are frozen; nothing was run, so it does no harm that clients repeat a 503."""

    code = "SANDBOX_PAUSED"
    title = "Sandbox paused"


class RuntimeFault(InternalFault):
    """runsc, the kernel or the disk refused. ``message`` holds the last lines of what they said."""


class MachineDiskFull(RuntimeFault):
    """The machine's own disk has no room for this, whatever the sandbox's has. Nothing was changed."""

    status = 503
    code = "NO_NODES_AVAILABLE"
    title = "No capacity"

    def __init__(self) -> None:
        super().__init__(
            "the disk of the server is full: delete templates or sandboxes that you do not need, or ask its operator "
            "to make room (thaw gc, or a larger disk for the state folder)"
        )


class GuestFault(InternalFault):
    """The agent inside answered with nonsense or not at all."""


class GuestUnreachable(GuestFault):
    """The agent inside accepts no connection: nothing was handed over to it."""


class BuildError(Exception):
    """A build failed for a reason that its owner should read; ends up in ``error_message``."""

    def __init__(self, message: str, *, step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
