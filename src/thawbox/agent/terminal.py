"""``terminal``: runs one command on a pseudo-terminal over one connection. Part of process 1; standard library only.

The agent imports this with the first terminal: most sandboxes never have one.
"""

import _signal  # type: ignore[import-not-found]  # ``signal`` costs 1 MB
import os
import termios

from . import children, protocol, relay, spawn
from .program import program_of
from .users import User
from .wire import ClientConnection, OperationError

SIDE_MAX = 1000
"""Most rows or columns: curses programs allocate memory for all of them."""

Request = dict[str, object]


def serve(connection: ClientConnection, request: Request, environment: dict[str, str], root: str) -> None:
    """Run the command that ``request`` describes, or a login shell, on a terminal of ``rows`` and ``cols``.

    Output comes as STDOUT; STDIN is what is typed; RESIZE sets the size. The session ends with the connection.

    Raises:
        OperationError: the request cannot be carried out as it is.
        UnknownUser: of ``users``.
    """
    program = program_of(request, environment, root, _login_shell())
    user = program.user
    agent_end, program_end = _open(request, user)
    fds = [agent_end]
    try:
        os.set_blocking(agent_end, False)
        fds.append(os.dup(agent_end))
        child, watched = spawn.spawn(
            program.argv,
            program.env,
            program.cwd,
            user,
            (program_end, program_end, program_end),
            fork_exec=lambda file, failure: _fork_exec(
                program.argv, file, program.env, program.cwd, user, program_end, failure
            ),
        )
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if not isinstance(error, spawn.StartError):
            raise
        relay.not_started(connection, error)
        return
    finally:
        os.close(program_end)
    run = relay.RunningCommand(child, watched, None)
    run.streams = [relay.OutputStream(fds[0], protocol.STDOUT, None)]
    run.stdin = fds[1]
    run.resize = lambda payload: _resize(run, payload)
    relay.attend(connection, run)


def _login_shell() -> list[bytes]:
    return [b"/bin/bash" if os.path.exists("/bin/bash") else b"/bin/sh", b"-l"]


def _open(request: Request, user: User | None) -> tuple[int, int]:
    """A new terminal: the agent's end and the program's end, which belongs to ``user`` as after a login."""
    rows, cols = _side("rows", request.get("rows")), _side("cols", request.get("cols"))
    agent_end, program_end = os.openpty()
    try:
        termios.tcsetwinsize(agent_end, (rows, cols))
        if user is not None:
            os.fchown(program_end, user.uid, -1)
    except BaseException:
        os.close(agent_end)
        os.close(program_end)
        raise
    return agent_end, program_end


def _side(name: str, side: object) -> int:
    if not isinstance(side, int) or isinstance(side, bool) or not 0 < side <= SIDE_MAX:
        raise OperationError("INVALID", f"{name} must be a whole number between 1 and {SIDE_MAX}")
    return side


def _resize(run: relay.RunningCommand, payload: bytes) -> None:
    rows, cols = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:], "big")
    if len(payload) != 4 or not 0 < rows <= SIDE_MAX or not 0 < cols <= SIDE_MAX or run.stdin < 0:
        return
    try:
        termios.tcsetwinsize(run.stdin, (rows, cols))
    except OSError:
        return
    children.signal_session(run.child, _signal.SIGWINCH)  # gVisor's terminal does not send it


def _fork_exec(
    argv: list[bytes],
    program: bytes,
    env: dict[bytes, bytes],
    cwd: str,
    user: User | None,
    program_end: int,
    failure: int,
) -> int:
    """Start ``program`` as the leader of a session whose terminal is ``program_end``; returns its pid.

    ``_posixsubprocess`` cannot give a child a terminal, so this forks in Python. An error in the child is written to
    ``failure`` in the form that ``_posixsubprocess`` uses.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.login_tty(program_end)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them
            _signal.signal(number, _signal.SIG_DFL)
        os.umask(0o022)
        os.chdir(cwd)
        if user is not None:
            os.setgroups(user.groups)
            os.setregid(user.gid, user.gid)
            os.setreuid(user.uid, user.uid)
        os.execve(program, argv, env)  # noqa: S606
    except BaseException as error:
        number = error.errno or 0 if isinstance(error, OSError) else 0
        os.write(failure, b"OSError:%x:" % number)
    finally:
        os._exit(127)
