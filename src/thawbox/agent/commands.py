"""``spawn``: runs one command over one connection. Part of process 1; standard library only."""

import os

from . import protocol, spawn
from .program import RESULT_FD, Program, program_of
from .relay import OutputStream, RunningCommand, attend, not_started
from .wire import ClientConnection, OperationError, integer, text

Request = dict[str, object]


def serve(connection: ClientConnection, request: Request, shared: dict[str, str], root: str) -> None:
    """Run the command that ``request`` describes and send its output on ``connection`` until it has ended.

    Raises:
        OperationError: the request cannot be carried out as it is.
        UnknownUser: of ``users``.
    """
    detached = bool(request.get("detach"))
    program = program_of(request, shared, root)
    try:
        if request.get("scratch") and not detached:
            program.make_scratch()
        _serve(connection, program, request, detached)
    finally:
        program.remove_scratch()


def _serve(connection: ClientConnection, program: Program, request: Request, detached: bool) -> None:
    try:
        run = _start(program, request, detached)
    except spawn.StartError as error:
        not_started(connection, error)
        return
    attend(connection, run, detached)


def _start(program: Program, request: Request, detached: bool) -> RunningCommand:
    result_limit = integer(request, "result_limit", None)
    agent_fds: list[int] = []
    child_fds: list[int] = []
    try:
        if request.get("stdin") and not detached:
            child_in, agent_in = os.pipe()
            agent_fds.append(agent_in)
        else:
            child_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        child_fds.append(child_in)
        if detached:
            child_fds += _log(request)
        else:
            for _ in range(2 if result_limit is None else 3):
                agent_end, child_end = os.pipe()
                agent_fds.append(agent_end)
                child_fds.append(child_end)
        for fd in agent_fds:
            os.set_blocking(fd, False)
        keep = tuple(child_fds[3:])
        if keep:
            program.env[RESULT_FD.encode()] = str(keep[0]).encode()
        stdio = (child_fds[0], child_fds[1], child_fds[2])
        child, watched = spawn.spawn(
            program.argv,
            program.env,
            program.cwd,
            program.user,
            stdio,
            detached,
            keep,
            imports=program.imports,
        )
    except BaseException:
        for fd in agent_fds:
            os.close(fd)
        raise
    finally:
        for fd in child_fds:
            os.close(fd)
    timeout = None if detached else program.timeout
    run = RunningCommand(child, watched, None if timeout is None else child.started + timeout)
    if not detached:
        if request.get("stdin"):
            run.stdin = agent_fds.pop(0)
        kinds = (protocol.STDOUT, protocol.STDERR, protocol.VALUE)
        limits = (program.limit, program.limit, result_limit)
        run.streams = [OutputStream(*stream) for stream in zip(agent_fds, kinds, limits, strict=False)]
    return run


def _log(request: Request) -> list[int]:
    path = text(request, "log", "/dev/null")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
    except OSError as error:
        raise OperationError("INVALID", f"log file {path!r} cannot be opened: {error.strerror}") from None
    return [fd, os.dup(fd)]
