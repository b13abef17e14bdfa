"""Every error that a client of the API or of a sandbox can get, and how it looks over HTTP.

``ThawboxError`` is the root. Mistakes of the caller derive from ``UserError`` (4xx), faults of the server from
``InternalFault`` (5xx). A class fixes the status, the code and the title (the string ``error``). An instance adds one
sentence that names the field, the value and the remedy (``message``). Why answers look so:
docs/reference/compatibility/conventions.md#errors.

The first paragraph of each docstring stands in docs/reference/errors.md, which is made from this module.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ThawboxError(Exception):
    """The root of all errors of Thawbox. Nothing raises it directly."""

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
        """Whole seconds that the client should wait; sent as ``retry_after`` and ``Retry-After``."""


class UserError(ThawboxError):
    """A part of the request is missing or wrong; ``message`` names it."""

    status = 400
    code = "INVALID_REQUEST"
    title = "Invalid request"


class InvalidTemplate(UserError):
    """The build request does not describe a template; ``message`` names the step and the field.

    The title is the published documentation's.
    """

    title = "Invalid template definition"


class Unauthorized(UserError):
    """The API key is unknown, malformed or revoked.

    Title and default message are the published documentation's.
    """

    status = 401
    code = "INVALID_API_KEY"
    title = "Unauthorized"

    def __init__(self, message: str = "Invalid API key", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)


class AuthenticationRequired(Unauthorized):
    """The request carries no API key or token."""

    code = "AUTHENTICATION_REQUIRED"


class InvalidToken(Unauthorized):
    """The sandbox token is forged, expired, or belongs to another sandbox."""

    code = "INVALID_TOKEN"


class Forbidden(UserError):
    """The caller is known but may not do this."""

    status = 403
    code = "PERMISSION_DENIED"
    title = "Forbidden"


class NotFound(UserError):
    """The object does not exist, or belongs to another organisation."""

    status = 404
    code = "RESOURCE_NOT_FOUND"
    title = "Not found"


class TemplateNotFound(NotFound):
    """The template does not exist, or belongs to another organisation.

    The title is the published documentation's.
    """

    title = "Template not found"


class BuildNotFound(NotFound):
    """The build does not exist, or belongs to another organisation."""

    title = "Build not found"


class SandboxNotFound(NotFound):
    """The sandbox does not exist, was deleted, has expired, or belongs to another organisation."""

    title = "Sandbox not found"


class AliasExists(UserError):
    """The organisation has a template of this name already.

    The title is the published documentation's.
    """

    status = 409
    code = "ALREADY_EXISTS"
    title = "Template alias already exists"


class TemplateInUse(UserError):
    """The template cannot be deleted while it has sandboxes."""

    status = 409
    code = "TEMPLATE_IN_USE"
    title = "Template in use"


class TemplateNotReady(UserError):
    """The template has no version yet from which a sandbox can start."""

    status = 409
    code = "TEMPLATE_NOT_READY"
    title = "Template not ready"


class InvalidState(UserError):
    """The state of the sandbox does not allow this operation."""

    status = 409
    code = "INVALID_STATE"
    title = "Invalid state"


class SandboxStopped(InvalidState):
    """The sandbox is stopped: it has files but no programs. Start it, then send the request again."""

    code = "SANDBOX_STOPPED"
    title = "Sandbox stopped"


class SandboxEnded(InvalidState):
    """The sandbox died and does not come back; ``message`` says why. Delete it.

    A 4xx, because clients repeat what is answered with a 5xx:
    docs/reference/compatibility/conventions.md#retries.
    """

    code = "SANDBOX_ENDED"
    title = "Sandbox ended"


class SandboxSilent(UserError):
    """The sandbox took the request but did not answer in time. It is unknown whether the request was carried out.

    A 4xx, because clients repeat what is answered with a 5xx, and this may have run.
    """

    status = 409
    code = "SANDBOX_NOT_RESPONDING"
    title = "Sandbox not responding"


class TooLarge(UserError):
    """The request, or what it refers to, has more bytes than the server's settings allow."""

    status = 413
    code = "INVALID_REQUEST"
    title = "Too large"


class RateLimited(UserError):
    """The organisation sends too many requests or builds; ``retry_after`` is the number of seconds to wait."""

    status = 429
    code = "RATE_LIMIT_EXCEEDED"
    title = "Rate limit exceeded"


class FileMissing(NotFound):
    """The path does not exist in the sandbox."""

    code = "FILE_NOT_FOUND"
    title = "File not found"


class InvalidPath(UserError):
    """The path in the sandbox is of the wrong kind, for example a folder where a file is expected."""

    code = "INVALID_PATH"
    title = "Invalid path"


class FileOperationFailed(UserError):
    """The file system of the sandbox refused the operation; ``message`` has its reason.

    A 4xx, because sending the request again would not help.
    """

    code = "FILE_OPERATION_FAILED"
    title = "File operation failed"


class RangeNotSatisfiable(UserError):
    """The range begins after the end of the file."""

    status = 416
    title = "Range not satisfiable"


class FolderMissing(FileMissing):
    """The folder does not exist in the sandbox."""

    code = "DIRECTORY_NOT_FOUND"
    title = "Directory not found"


class PathNotAllowed(Forbidden):
    """The path lies outside the folders that the setting ``file_roots`` allows."""

    code = "PATH_NOT_ALLOWED"
    title = "Path not allowed"


class DiskFull(UserError):
    """The disk of the sandbox is full.

    A 4xx, because sending the request again would not help.
    """

    status = 413
    code = "DISK_FULL"
    title = "Disk full"


class FileExists(UserError):
    """The file exists, and the request does not allow to overwrite it."""

    status = 409
    code = "FILE_ALREADY_EXISTS"
    title = "File already exists"


class ProcessNotFound(NotFound):
    """The sandbox has no process or background execution with this id."""

    code = "PROCESS_NOT_FOUND"
    title = "Process not found"


class VariableNotSet(NotFound):
    """The sandbox does not have this environment variable, or has it from its template only."""

    title = "Variable not set"


class MissingParameter(UserError):
    """The request lacks a parameter that it needs."""

    code = "MISSING_PARAMETER"
    title = "Missing parameter"


class RouteNotFound(NotFound):
    """The server has no route at this path."""


class MethodNotAllowed(UserError):
    """The path exists, but not for this method."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    title = "Method not allowed"


class PortNotReachable(ThawboxError):
    """Nothing listens on the port inside the sandbox, or the program there does not answer with valid HTTP.

    A 502 that is not a fault of the server: people read it in browsers.
    """

    status = 502
    code = "PORT_NOT_REACHABLE"
    title = "Port not reachable"


class DesktopNotAvailable(ThawboxError):
    """No template has a desktop.

    501 instead of the documented 503, which the Python client would ask three times.
    """

    status = 501
    code = "DESKTOP_NOT_AVAILABLE"
    title = "Desktop not available"


class InternalFault(ThawboxError):
    """The server failed; its log has the details under the request id."""


class UnexpectedFault(InternalFault):
    """A bug in the server; its log has the traceback under the request id."""

    def __init__(self) -> None:
        super().__init__("The server failed. Its log has the details under this request id.")


class NoCapacity(InternalFault):
    """The node has no room for another sandbox. Wait, or stop some sandboxes."""

    status = 503
    code = "NO_NODES_AVAILABLE"
    title = "No capacity"


class SandboxUnavailable(InternalFault):
    """The sandbox does not answer now: it is starting, or its agent broke off. It is safe to repeat the request."""

    status = 503
    code = "SERVICE_UNAVAILABLE"
    title = "Sandbox unavailable"


class SandboxPaused(SandboxUnavailable):
    """The sandbox is paused. Resume it, then send the request again. Nothing was run.

    A 503: nothing was run, so it does no harm that clients repeat it.
    """

    code = "SANDBOX_PAUSED"
    title = "Sandbox paused"


class RuntimeFault(InternalFault):
    """runsc, the kernel or the disk reported an error; ``message`` holds the last lines of it."""


class MachineDiskFull(RuntimeFault):
    """The disk of the server is full; nothing was changed."""

    status = 503
    code = "NO_NODES_AVAILABLE"
    title = "No capacity"

    def __init__(self) -> None:
        super().__init__(
            "the disk of the server is full: delete templates or sandboxes that you do not need, or ask its operator "
            "to make room (thaw gc, or a larger disk for the state folder)"
        )


class GuestFault(InternalFault):
    """The agent inside the sandbox sent an invalid answer, or none."""


class GuestUnreachable(GuestFault):
    """The agent inside the sandbox accepts no connection, so it got no request."""


class BuildError(Exception):
    """A build failed for a reason that its owner can act on.

    ``message`` becomes the template's ``error_message``; ``step`` is the name of the phase or step, if one failed.
    """

    def __init__(self, message: str, *, step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
