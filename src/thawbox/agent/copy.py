"""``place``: one COPY step, done by a child interpreter. Part of process 1; standard library only.

``tarfile`` and what it imports cost 5 MB, which would stay in every snapshot. So ``copy_program`` is a program of its
own.
"""

import os
import sys

from . import children, environment, protocol, spawn
from .wire import ClientConnection, OperationError

REPLY_MAX = 64 * 1024


def interpreter() -> list[str]:
    """The command of the agent's interpreter: relocated with its own loader, or a plain one in tests."""
    base = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.exists(base + "/ld.so"):
        return [base + "/ld.so", "--library-path", base + "/lib", base + "/bin/python3", "-I", "-S"]
    return [sys.executable, "-I", "-S"]


def program(name: str) -> list[str]:
    """The command that starts ``name``, one of ``agent.PROGRAMS``."""
    here = os.path.dirname(os.path.abspath(__file__))
    launcher = next(path for path in (f"{here}/agent.pyc", f"{here}/agent.py") if os.path.exists(path))
    return [*interpreter(), launcher, name]


def place(connection: ClientConnection, request: dict[str, object], root: str) -> dict[str, object]:
    """Receive a tar stream in DATA frames and put its members where Docker's COPY would.

    Raises:
        OperationError: the error that the program reports.
        ClientGone: the client closed before END.
    """
    options = {
        "dest": request.get("dest"),
        "cwd": request.get("cwd"),
        "owner": request.get("owner"),
        "permissions": request.get("permissions"),
        "root": root,
    }
    argv = [*program("copy_program"), protocol.encode_json(options).decode()]
    program_in, agent_in = os.pipe()
    agent_out, program_out = os.pipe()
    child = None
    try:
        try:
            child, watched = spawn.spawn(
                [os.fsencode(word) for word in argv],
                {b"PATH": environment.DEFAULT_PATH.encode()},
                "/",
                None,
                (program_in, program_out, 2),
            )
            os.close(watched)
        finally:
            os.close(program_in)
            os.close(program_out)
        try:
            _forward(connection, agent_in)
        finally:
            os.close(agent_in)
            agent_in = -1
        reply = b""
        while len(reply) < REPLY_MAX and (data := os.read(agent_out, REPLY_MAX)):
            reply += data
    finally:
        if child is not None:
            children.kill_session(child)
        for fd in (agent_in, agent_out):
            if fd >= 0:
                os.close(fd)
    answer = protocol.decode_object(
        reply or b'{"code":"INTERNAL","message":"copying ended without a result"}'
    )
    if "code" in answer:
        raise OperationError(str(answer["code"]), str(answer.get("message")))
    return answer


def _forward(connection: ClientConnection, pipe: int) -> None:
    def write(piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(pipe, piece) :]

    try:  # noqa: SIM105
        connection.receive_stream(write)
    except BrokenPipeError:  # it has reported an error
        pass
