"""``place``: one COPY step, done by a child interpreter. Runs inside, standard library only.

``tarfile`` and what it imports cost 5 MB, which would stay in every snapshot; so ``place`` is a program of
its own.
"""

import os
import sys

from . import children, environment, protocol
from .wire import Connection, Refused

REPLY_MAX = 64 * 1024


def interpreter() -> list[str]:
    """How to start the interpreter that runs us: relocated with its own loader, or a plain one in tests."""
    base = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.exists(base + "/ld.so"):
        return [base + "/ld.so", "--library-path", base + "/lib", base + "/bin/python3", "-I", "-S"]
    return [sys.executable, "-I", "-S"]


def program(name: str) -> list[str]:
    """How to start ``name``, one of ``agent.PROGRAMS``."""
    here = os.path.dirname(os.path.abspath(__file__))
    launcher = next(path for path in (f"{here}/agent.pyc", f"{here}/agent.py") if os.path.exists(path))
    return [*interpreter(), launcher, name]


def place(connection: Connection, request: dict[str, object], root: str) -> dict[str, object]:
    """Take a tar stream in DATA frames and put its members where Docker's COPY would.

    Raises:
        Refused: what the program says (see ``place``).
        Gone: the client closed before END.
    """
    fields = {name: request.get(name) for name in ("dest", "cwd", "owner", "permissions")}
    argv = [*program("copy_program"), protocol.encode_json({**fields, "root": root}).decode()]
    their_in, our_in = os.pipe()
    our_out, their_out = os.pipe()
    child = None
    try:
        try:
            child, watched = children.spawn(
                [os.fsencode(word) for word in argv],
                {b"PATH": environment.DEFAULT_PATH.encode()},
                "/",
                None,
                (their_in, their_out, 2),
            )
            os.close(watched)
        finally:
            os.close(their_in)
            os.close(their_out)
        try:
            _forward(connection, our_in)
        finally:
            os.close(our_in)
            our_in = -1
        reply = b""
        while len(reply) < REPLY_MAX and (data := os.read(our_out, REPLY_MAX)):
            reply += data
    finally:
        if child is not None:
            children.kill_session(child)
        for fd in (our_in, our_out):
            if fd >= 0:
                os.close(fd)
    answer = protocol.decode_object(reply or b'{"code":"INTERNAL","message":"place ended without a word"}')
    if "code" in answer:
        raise Refused(str(answer["code"]), str(answer.get("message")))
    return answer


def _forward(connection: Connection, pipe: int) -> None:
    def write(piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(pipe, piece) :]

    try:  # noqa: SIM105
        connection.take_stream(write)
    except BrokenPipeError:  # it has seen enough, and has said why
        pass
