"""``ask``: one question to a program of ours inside that listens on a unix socket. Runs inside, standard library only.

The program gets two lines of JSON, the sandbox's environment and the question; what it says until it hangs up comes
as DATA frames and END. A client that goes away makes the program see the end of its connection.
"""

import _socket
import os
import select

from . import protocol
from .users import look_up
from .wire import Connection, Gone, Refused, text

CONNECT_SECONDS = 5.0
READ = 64 * 1024
_POLLRDHUP = 0x2000


def serve(connection: Connection, request: dict[str, object], shared: dict[str, str], root: str) -> None:
    """Pass ``question`` on to the program of ``user`` at ``socket``, and its answer back.

    ``{uid}`` in ``socket`` stands for the user's id; the socket must be theirs.

    Raises:
        Refused: NOT_LISTENING: there is no such program.
        UnknownUser: of ``users``.
    """
    uid = look_up(text(request, "user", "0"), root).uid
    path, question = text(request, "socket").replace("{uid}", str(uid)), request.get("question")
    if not isinstance(question, dict):
        raise Refused("INVALID", "question must be an object")
    target = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        target.settimeout(CONNECT_SECONDS)
        try:
            if os.stat(os.path.dirname(path)).st_uid != uid:
                raise Refused("NOT_LISTENING", f"the folder of {path!r} is another user's")
            target.connect(path)
            target.sendall(protocol.encode_json(shared) + b"\n" + protocol.encode_json(question) + b"\n")
        except OSError as error:
            raise Refused("NOT_LISTENING", f"nobody answers at {path!r}: {error.strerror}") from None
        target.settimeout(None)
        _pass_back(connection, target)
    finally:
        target.close()


def _pass_back(connection: Connection, target: _socket.socket) -> None:
    while True:
        poller = select.poll()
        poller.register(target, select.POLLIN)
        poller.register(connection.sock, select.POLLIN | _POLLRDHUP)
        ready = dict(poller.poll())
        if connection.sock.fileno() in ready:  # it has nothing more to say, so it is going
            raise Gone
        try:
            data = target.recv(READ)
        except OSError:
            data = b""
        if not data:
            connection.send(protocol.END)
            return
        connection.send(protocol.DATA, data)
