"""``dial``: connects the client to a program inside that listens on loopback. Part of process 1; standard library only.

After STARTED, DATA and END go both ways until both sides have sent END.
"""

import _socket
import select

from . import protocol
from .wire import ClientConnection, ClientGone, OperationError, integer

CONNECT_SECONDS = 5.0
READ = 64 * 1024
PENDING_MAX = 256 * 1024
"""While this many bytes wait for one side, nothing more is read from the other."""
_POLLRDHUP = 0x2000


def serve(connection: ClientConnection, request: dict[str, object]) -> None:
    """Connect to ``port`` on 127.0.0.1, else on ::1, and relay bytes until both sides have ended.

    Raises:
        OperationError: NOT_LISTENING: no program accepts the connection.
    """
    port = integer(request, "port", None)
    if port is None or not 0 < port < 65536:
        raise OperationError("INVALID", "port must be 1 to 65535")
    target = _connect(port)
    try:
        connection.send_object(protocol.STARTED, {})
        _relay(connection, target)
    finally:
        target.close()
        connection.sock.setblocking(True)


def _connect(port: int) -> _socket.socket:
    for family, address in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        try:
            target = _socket.socket(family, _socket.SOCK_STREAM)
        except OSError:  # no IPv6 here
            continue
        try:
            target.settimeout(CONNECT_SECONDS)
            target.connect((address, port))
            target.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:
            target.close()
        else:
            return target
    raise OperationError("NOT_LISTENING", f"nothing listens on port {port}")


def _relay(connection: ClientConnection, target: _socket.socket) -> None:
    client = connection.sock
    client.setblocking(False)
    target.setblocking(False)
    inward = bytearray()  # to the program
    outward = bytearray()  # to the client, as frames
    shut = target_ended = False
    client_ended = _take(connection, b"", inward)
    while not (target_ended and not outward and shut):
        poller = select.poll()
        listening = len(inward) < PENDING_MAX
        # The client's end is always watched for: it ends the operation.
        poller.register(
            client, (select.POLLIN if listening else _POLLRDHUP) | (select.POLLOUT if outward else 0)
        )
        wanted = 0 if target_ended or len(outward) >= PENDING_MAX else select.POLLIN
        wanted |= select.POLLOUT if inward else 0
        if wanted:
            poller.register(target, wanted)
        ready = dict(poller.poll())
        from_client, from_target = ready.get(client.fileno(), 0), ready.get(target.fileno(), 0)
        if from_client & ~select.POLLOUT:
            data = _receive(client) if listening else b""
            if data == b"":
                raise ClientGone
            if data and _take(connection, data, inward):
                client_ended = True
        if from_target & ~select.POLLOUT and not target_ended:
            data = _receive(target)
            if data == b"":
                target_ended = True
                outward += protocol.encode_frame(protocol.END)
            elif data:
                outward += protocol.encode_frame(protocol.DATA, data)
        if outward and not _send(client, outward):
            raise ClientGone
        if inward and not _send(target, inward):
            inward.clear()  # the program reads no more; what it still writes is sent to the client
            client_ended = True
        if client_ended and not inward and not shut:
            shut = True
            _shut(target)


def _take(connection: ClientConnection, data: bytes, inward: bytearray) -> bool:
    """Append the client's DATA to ``inward``; returns whether the client has sent END.

    Raises:
        ClientGone: a frame is not allowed.
    """
    try:
        frames = connection.take(data)
    except protocol.ProtocolError:
        raise ClientGone from None
    ended = False
    for kind, payload in frames:
        if kind == protocol.DATA and not ended:
            inward += payload
        elif kind == protocol.END:
            ended = True
        else:
            raise ClientGone
    return ended


def _receive(sock: _socket.socket) -> bytes | None:
    """Received bytes. None: nothing yet; empty: the end of the connection, or an error."""
    try:
        return sock.recv(READ)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _send(sock: _socket.socket, pending: bytearray) -> bool:
    """Send what fits, and remove it from ``pending``; False if the connection is closed."""
    try:
        del pending[: sock.send(pending)]
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _shut(sock: _socket.socket) -> None:
    try:
        sock.shutdown(_socket.SHUT_WR)
    except OSError:
        return  # it is closed; the next receive reports it
