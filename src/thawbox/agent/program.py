"""What a request says to run, checked and made ready for ``spawn``. Part of process 1; standard library only."""

import os

from . import environment, files
from .users import User, look_up
from .wire import OperationError, integer, text

Request = dict[str, object]

SCRATCH = "THAWBOX_SCRATCH"
"""The variable that holds the path of a command's scratch folder."""
RESULT_FD = "THAWBOX_RESULT_FD"
"""The variable that holds the number of a command's result descriptor."""


class Program:
    """A program to start: words, whole environment, working folder, user (None: root), limits."""

    __slots__ = ("argv", "cwd", "env", "imports", "limit", "scratch", "timeout", "user")

    def __init__(self, argv: list[bytes], env: dict[bytes, bytes], cwd: str, user: User | None) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.user = user
        self.timeout: float | None = None
        """Seconds; None: for ever."""
        self.limit: int | None = None
        """Bytes of each output stream that are kept; None: all."""
        self.imports: tuple[str, ...] = ()
        """Python modules that it seems to import."""
        self.scratch: str | None = None
        """A folder for the program alone, which is removed after it."""

    def make_scratch(self) -> None:
        """Make the scratch folder and put its path into the program's environment."""
        base = "/tmp" if os.path.isdir("/tmp") else "/"
        path = f"{base}/.thawbox-{os.urandom(8).hex()}"
        os.mkdir(path, 0o700)
        self.scratch = path
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)
        self.env[SCRATCH.encode()] = path.encode()

    def remove_scratch(self) -> None:
        """Remove the scratch folder and whatever the program left in it."""
        if self.scratch is not None:
            try:  # noqa: SIM105
                files.remove({"path": self.scratch, "recursive": True})
            except (OSError, OperationError):
                pass  # the program has moved it away, or still writes to it
            self.scratch = None


def program_of(
    request: Request, shared: dict[str, str], root: str, default: list[bytes] | None = None
) -> Program:
    """The program that ``request`` describes, else ``default``; ``shared`` is the sandbox's environment.

    Raises:
        OperationError: the request cannot be carried out as it is.
        UnknownUser: of ``users``.
    """
    timeout = request.get("timeout")
    if timeout is not None and (
        not isinstance(timeout, int | float) or isinstance(timeout, bool) or timeout < 0
    ):
        raise OperationError("INVALID", f"timeout must be seconds, not {timeout!r}")
    user = look_up(text(request, "user"), root) if request.get("user") is not None else None
    env = environment.needed(user, root)
    env.update(shared)
    env.update(environment.variables(request.get("env")))
    cwd = text(request, "cwd", "/")
    if not os.path.isdir(cwd):
        raise OperationError("NO_CWD", f"working folder {cwd!r} does not exist or is not a folder")
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    program = Program(_argv(request, default), encoded, cwd, user)
    program.timeout = timeout
    program.limit = integer(request, "output_limit", None)
    if isinstance(imports := request.get("imports"), list):
        program.imports = tuple(name for name in imports if isinstance(name, str))
    return program


def _argv(request: Request, default: list[bytes] | None) -> list[bytes]:
    argv, line = request.get("argv"), request.get("shell")
    if argv is None and line is None and default is not None:
        return default
    if isinstance(line, str) and argv is None:
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
        argv = [shell, "-c", line]
    if not isinstance(argv, list) or not argv or (line is not None and argv[-1] is not line):
        raise OperationError("INVALID", "give either argv, a list of strings, or shell, a string")
    for word in argv:
        if not isinstance(word, str) or "\0" in word:
            raise OperationError("INVALID", "every word of argv must be a string without NUL")
    return [os.fsencode(word) for word in argv]
