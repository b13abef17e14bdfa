"""Process 1 of every sandbox: does what must happen inside, on behalf of the client outside.

Runs inside on the standard library alone, on a relocated interpreter (``image``), as
``LOADER --library-path LIB PYTHON -I -S agent.pyc``. Memory is the aim: this program is a part of every
sandbox, so it stays away from ``socket``, ``threading``, ``subprocess``, ``signal`` and ``asyncio`` (1 to 4
MB each).

Who may talk to it: only who knows the secret. The host writes it, one line, into the pipe that is our
descriptor 0, before the boot, and again, a new one into a new pipe, before each thaw. So clones of one
snapshot do not know each other's, and a program inside that runs as another user than root cannot become root
through us.
"""

import _socket
import _thread
import os
import select
import time
from _operator import _compare_digest  # hmac's, without importing hashlib

from . import (
    ask,
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
    warm,
)
from .users import UnknownUser
from .wire import Connection, Gone, Refused

PORT = 7777
CONNECTIONS = 256
STRANGERS = 64
"""Connections that have not shown the secret yet; one more, and the oldest of them is closed."""
STACK = 256 * 1024

Request = dict[str, object]


class _Agent:
    """What all connections share."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.environment = environment.Environment()
        self.started = time.monotonic()
        self.secret = b""
        self.lock = _thread.allocate_lock()
        self.connections = 0
        self.strangers: dict[int, _socket.socket] = {}

    def knows(self, presented: bytes) -> bool:
        """Whether that is the secret; an unknown one makes us look for a new one from the host."""
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
            pass  # no descriptor 0: we keep what we have


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
            # Out of descriptors, or a listener that did not survive a freeze: begin afresh.
            time.sleep(0.02)
            listener.close()
            listener = _listen(address)
            continue
        _welcome(agent, fd)


def _inherit_nothing() -> None:
    """Whatever the runtime left open is not for our children; all that Python opens is close-on-exec
    anyway."""
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


def _welcome(agent: _Agent, fd: int) -> None:
    sock = _socket.socket(fileno=fd)
    with agent.lock:
        full = agent.connections >= CONNECTIONS
        if not full:
            agent.connections += 1
            agent.strangers[fd] = sock
            if len(agent.strangers) > STRANGERS:
                _hang_up(agent.strangers.pop(next(iter(agent.strangers))))
    if full:
        sock.close()
        return
    try:
        _thread.start_new_thread(_serve, (agent, sock))
    except RuntimeError:  # no more threads
        _leave(agent, sock)


def _hang_up(sock: _socket.socket) -> None:
    try:
        sock.shutdown(_socket.SHUT_RDWR)  # its own thread closes it
    except OSError:
        pass


def _leave(agent: _Agent, sock: _socket.socket) -> None:
    with agent.lock:
        agent.connections -= 1
        agent.strangers.pop(sock.fileno(), None)
    sock.close()


def _serve(agent: _Agent, sock: _socket.socket) -> None:
    try:
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        connection = Connection(sock)
        line = connection.request_line(agent.knows)
        with agent.lock:
            agent.strangers.pop(sock.fileno(), None)
        if line is None:
            connection.send_object(protocol.ERROR, {"code": "UNAUTHORIZED", "message": "wrong secret"})
        else:
            _answer(agent, connection, line)
        connection.goodbye()
    except (Gone, OSError):
        pass
    finally:
        _leave(agent, sock)


def _answer(agent: _Agent, connection: Connection, line: bytes) -> None:
    try:
        request = protocol.decode_object(line)
        if connection.given_up():  # it told somebody that we are silent, so nothing should happen any more
            return
        result = _operate(agent, connection, request)
        if result is not None:
            connection.send_object(protocol.RESULT, result)
    except Gone:
        raise
    except Refused as error:
        _say(connection, error.code, error.message)
    except UnknownUser as error:
        _say(connection, "UNKNOWN_USER", str(error))
    except protocol.ProtocolError as error:
        _say(connection, "INVALID", str(error))
    except OSError as error:
        told = files.operation_error(error, os.fsdecode(error.filename) if error.filename else "failed")
        _say(connection, told.code, told.message)
    except Exception as error:  # a fault of ours must not end process 1
        _say(connection, "INTERNAL", f"{type(error).__name__}: {error}")


def _say(connection: Connection, code: str, message: str) -> None:
    connection.sock.setblocking(True)
    connection.send_object(protocol.ERROR, {"code": code, "message": message[:4096]})


def _operate(agent: _Agent, connection: Connection, request: Request) -> dict[str, object] | None:
    """Do it; returns the RESULT, or None if the operation has sent its own last frame."""
    match request.get("op"):
        case "ping":
            return {"pid": os.getpid(), "uptime": time.monotonic() - agent.started, "time": time.time()}
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
            ask.serve(connection, request, agent.environment.shared(), agent.root)
            return None
        case "dial":
            dial.serve(connection, request)
            return None
        case "quiesce":
            return machine.quiesce()
        case "renew":
            connection.send_object(protocol.RESULT, {})
            connection.goodbye()
            machine.renew()
            return None
        case op:
            raise Refused("UNKNOWN_OPERATION", f"this agent has no operation {op!r}")


def _serve_watch(connection: Connection, request: Request) -> None:
    from . import watch

    watch.serve(connection, request)


def _serve_terminal(agent: _Agent, connection: Connection, request: Request) -> None:
    # Loaded with the first terminal: most sandboxes never have one.
    from . import terminal

    terminal.serve(connection, request, agent.environment.shared(), agent.root)
