"""Process 1 of every sandbox: serves the operations that the client outside requests.

It uses the standard library alone, on a relocated interpreter (``agent_image``), started as
``LOADER --library-path LIB PYTHON -I -S agent.pyc``. Its memory is part of every sandbox, so it does not import
``socket``, ``threading``, ``subprocess``, ``signal`` or ``asyncio`` (1 to 4 MB each).

It serves only clients that know the secret. The host writes the secret, one line, into the pipe that is descriptor 0
before the boot, and a new secret into a new pipe before each thaw. So clones of one snapshot do not know each other's
secret, and a program inside that does not run as root cannot become root through the agent.
"""

import _socket
import _thread
import os
import select
import time
from _operator import _compare_digest  # hmac's, without importing hashlib

from . import (
    children,
    commands,
    copy,
    dial,
    environment,
    file_write,
    files,
    jobs,
    machine,
    processes,
    protocol,
    unix_socket,
    warm,
)
from .users import UnknownUser
from .wire import ClientConnection, ClientGone, OperationError

PORT = 7777
CONNECTIONS = 256
UNAUTHENTICATED = 64
"""Connections that have not sent the secret yet; with one more, the oldest of them is closed."""
STACK = 256 * 1024

Request = dict[str, object]


class _Agent:
    """State that all connections share."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.environment = environment.Environment()
        self.started = time.monotonic()
        self.secret = b""
        self.lock = _thread.allocate_lock()
        self.connections = 0
        self.unauthenticated: dict[int, _socket.socket] = {}
        """By descriptor, oldest first."""

    def accepts(self, presented: bytes) -> bool:
        """Whether ``presented`` is the secret. If not, first looks for a new secret from the host."""
        with self.lock:
            if not _compare_digest(presented, self.secret):
                self._read_secret()
            return _compare_digest(presented, self.secret)

    def _read_secret(self) -> None:
        try:
            poller = select.poll()
            poller.register(0, select.POLLIN)
            while dict(poller.poll(0)).get(0, 0) & select.POLLIN:
                data = os.read(0, 4096)
                if not data:
                    return
                for line in data.split(b"\n")[:-1]:
                    if protocol.is_secret(line):
                        self.secret = line
        except OSError:
            pass  # no descriptor 0: the old secret stays


def main(arguments: list[str]) -> None:
    """Serve for ever. Options are for tests: ``--port N --bind ADDRESS --print-port --root FOLDER``."""
    options = {"--port": str(PORT), "--bind": "0.0.0.0", "--root": ""}
    print_port = "--print-port" in arguments
    words = [word for word in arguments if word != "--print-port"]
    options.update(zip(words[::2], words[1::2], strict=True))
    _inherit_nothing()
    _thread.stack_size(STACK)
    agent = _Agent(options["--root"])
    address = (options["--bind"], int(options["--port"]))
    listener = _listen(address)
    if print_port:
        os.write(1, f"{listener.getsockname()[1]}\n".encode())
    _thread.start_new_thread(children.reap_forever, ())
    while True:
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]
        except OSError:
            # Out of descriptors, or a listener that did not survive a freeze: open a new one.
            time.sleep(0.02)
            listener.close()
            listener = _listen(address)
            continue
        _admit(agent, fd)


def _inherit_nothing() -> None:
    """Make every descriptor that the runtime left open close-on-exec; those that Python opens are already."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.set_inheritable(int(name), False)
        except OSError:
            pass


def _listen(address: tuple[str, int]) -> _socket.socket:
    while True:
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            listener.close()
            os.write(2, f"thawbox agent: cannot listen on {address}: {error}\n".encode())
            time.sleep(0.1)
        else:
            return listener


def _admit(agent: _Agent, fd: int) -> None:
    """Serve the connection ``fd`` in a thread of its own, or close it if there are too many."""
    sock = _socket.socket(fileno=fd)
    with agent.lock:
        full = agent.connections >= CONNECTIONS
        if not full:
            agent.connections += 1
            agent.unauthenticated[fd] = sock
            if len(agent.unauthenticated) > UNAUTHENTICATED:
                _shut_down(agent.unauthenticated.pop(next(iter(agent.unauthenticated))))
    if full:
        sock.close()
        return
    try:
        _thread.start_new_thread(_serve, (agent, sock))
    except RuntimeError:  # no more threads
        _close(agent, sock)


def _shut_down(sock: _socket.socket) -> None:
    try:
        sock.shutdown(_socket.SHUT_RDWR)  # its own thread closes it
    except OSError:
        pass


def _close(agent: _Agent, sock: _socket.socket) -> None:
    with agent.lock:
        agent.connections -= 1
        agent.unauthenticated.pop(sock.fileno(), None)
    sock.close()


def _serve(agent: _Agent, sock: _socket.socket) -> None:
    try:
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        connection = ClientConnection(sock)
        line = connection.request_line(agent.accepts)
        with agent.lock:
            agent.unauthenticated.pop(sock.fileno(), None)
        if line is None:
            connection.send_object(protocol.ERROR, {"code": "UNAUTHORIZED", "message": "wrong secret"})
        else:
            _answer(agent, connection, line)
        connection.finish()
    except (ClientGone, OSError):
        pass
    finally:
        _close(agent, sock)


def _answer(agent: _Agent, connection: ClientConnection, line: bytes) -> None:
    try:
        request = protocol.decode_object(line)
        if connection.closed_by_client():  # it has reported a timeout, so nothing must happen any more
            return
        result = _operate(agent, connection, request)
        if result is not None:
            connection.send_object(protocol.RESULT, result)
    except ClientGone:
        raise
    except OperationError as error:
        _send_error(connection, error.code, error.message)
    except UnknownUser as error:
        _send_error(connection, "UNKNOWN_USER", str(error))
    except protocol.ProtocolError as error:
        _send_error(connection, "INVALID", str(error))
    except OSError as error:
        refusal = files.operation_error(error, os.fsdecode(error.filename) if error.filename else "failed")
        _send_error(connection, refusal.code, refusal.message)
    except Exception as error:  # a defect in the agent must not end process 1
        _send_error(connection, "INTERNAL", f"{type(error).__name__}: {error}")


def _send_error(connection: ClientConnection, code: str, message: str) -> None:
    connection.sock.setblocking(True)
    connection.send_object(protocol.ERROR, {"code": code, "message": message[:4096]})


def _operate(agent: _Agent, connection: ClientConnection, request: Request) -> dict[str, object] | None:
    """Perform the operation; returns the RESULT, or None if the operation has sent its last frame itself."""
    match request.get("op"):
        case "ping":
            uptime = time.monotonic() - agent.started
            return {"pid": os.getpid(), "uptime": uptime, "time": time.time(), "version": protocol.VERSION}
        case "spawn":
            commands.serve(connection, request, agent.environment.shared(), agent.root)
            return None
        case "terminal":
            _serve_terminal(agent, connection, request)
            return None
        case "watch":
            _serve_watch(connection, request)
            return None
        case "init":
            return machine.init(request, agent.environment, agent.root)
        case "env":
            return environment.operate(request, agent.environment, agent.root)
        case "job":
            return jobs.start(connection, request, agent.environment.shared(), agent.root)
        case "jobs":
            jobs.report(connection, request)
            return None
        case "kill":
            return jobs.kill(request)
        case "processes":
            processes.report(connection, agent.root)
            return None
        case "describe":
            return machine.describe(request, agent.environment.shared(), agent.root)
        case "status":
            return children.status(request)
        case "read":
            files.read(connection, request)
            return None
        case "write":
            return file_write.write(connection, request, agent.root)
        case "stat":
            return files.stat_path(request)
        case "list":
            files.list_folder(connection, request)
            return None
        case "mkdir":
            return files.mkdir(request, agent.root)
        case "remove":
            return files.remove(request)
        case "probe":
            return machine.probe(request)
        case "usage":
            return machine.usage()
        case "place":
            return copy.place(connection, request, agent.root)
        case "warm":
            return warm.start(request, agent.environment.shared(), agent.root)
        case "ask":
            unix_socket.serve(connection, request, agent.environment.shared(), agent.root)
            return None
        case "dial":
            dial.serve(connection, request)
            return None
        case "quiesce":
            return machine.quiesce()
        case "renew":
            connection.send_object(protocol.RESULT, {})
            connection.finish()
            machine.renew()
            return None
        case op:
            raise OperationError("UNKNOWN_OPERATION", f"this agent has no operation {op!r}")


def _serve_watch(connection: ClientConnection, request: Request) -> None:
    from . import watch

    watch.serve(connection, request)


def _serve_terminal(agent: _Agent, connection: ClientConnection, request: Request) -> None:
    from . import terminal

    terminal.serve(connection, request, agent.environment.shared(), agent.root)
