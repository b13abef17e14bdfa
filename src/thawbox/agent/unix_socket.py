"""``ask``: one request to a program of Thawbox that listens on a unix socket inside. Part of process 1.

The program gets two lines of JSON, the sandbox's environment and the request's ``question``. What it writes until it
closes the connection comes as DATA frames and END. A client that leaves makes the program see the end of its
connection. Standard library only.
"""

import _socket
import os
import select

from . import protocol
from .users import look_up
from .wire import ClientConnection, ClientGone, OperationError, text

CONNECT_SECONDS = 5.0
READ = 64 * 1024
_POLLRDHUP = 0x2000


def serve(
    connection: ClientConnection, request: dict[str, object], shared: dict[str, str], root: str
) -> None:
    """Send ``question`` to the program of ``user`` at ``socket``, and its answer to the client.

    ``{uid}`` in ``socket`` stands for the user's id; the socket must be theirs.

    Raises:
        OperationError: NOT_LISTENING: there is no such program.
        UnknownUser: of ``users``.
    """
    uid = look_up(text(request, "user", "0"), root).uid
    path, question = text(request, "socket").replace("{uid}", str(uid)), request.get("question")
    if not isinstance(question, dict):
        raise OperationError("INVALID", "question must be an object")
    target = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        target.settimeout(CONNECT_SECONDS)
        try:
            if os.stat(os.path.dirname(path)).st_uid != uid:
                raise OperationError("NOT_LISTENING", f"the folder of {path!r} is another user's")
            target.connect(path)
            target.sendall(protocol.encode_json(shared) + b"\n" + protocol.encode_json(question) + b"\n")
        except OSError as error:
            raise OperationError(
                "NOT_LISTENING", f"no program listens at {path!r}: {error.strerror}"
            ) from None
        target.settimeout(None)
        _send_answer(connection, target)
    finally:
        target.close()


def _send_answer(connection: ClientConnection, target: _socket.socket) -> None:
    while True:
        poller = select.poll()
        poller.register(target, select.POLLIN)
        poller.register(connection.sock, select.POLLIN | _POLLRDHUP)
        ready = dict(poller.poll())
        if connection.sock.fileno() in ready:  # it sends nothing after its request, so this is its end
            raise ClientGone
        try:
            data = target.recv(READ)
        except OSError:
            data = b""
        if not data:
            connection.send(protocol.END)
            return
        connection.send(protocol.DATA, data)
