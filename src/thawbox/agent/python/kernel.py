"""Owns the IPython kernel of a sandbox. For the template's own Python, 3.8 or newer, with ipykernel.

``kernel.py start`` makes sure that it runs, in the background; with ``--wait`` it ends when code can run. Exit
status 3: this Python has no ipykernel.

The bridge, the kernel and the code all run as the user who started it, so the socket, ``kernel.sock`` in a folder of
that user's own, gives nobody more than they have. A request is two lines of JSON, first the sandbox's environment,
then::

    {"op": "status"}                                        answered by one line
    {"op": "execute", "code", "timeout", "env", "sandbox"}  answered by events, the last of which is "end"

Events are lines ``{"type": "stdout" | "stderr", "text"}``, ``{"type": "result" | "display", "data": {MIME: content}}``
and ``{"type": "end", "status": "ok" | "error" | "timeout" | "crashed" | "refused", "seconds", "restarted", ...}``.
One cell runs at a time, the others wait. Who hangs up interrupts the cell.

jupyter_client would do what ``Kernel`` does, but holds 25 MB for it in every sandbox; the wire protocol is a few lines.
"""

import argparse
import fcntl
import hashlib
import hmac
import json
import os
import queue
import re
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

FOLDER = "/tmp/thawbox-kernel-%d"
"""By user id."""
NO_IPYKERNEL = 3
REQUEST_MAX = 4 << 20
TEXT_MAX = 4 << 20
"""Characters of each of stdout and stderr that a cell may print; the rest is dropped."""
DATA_MAX = 16 << 20
"""Bytes of all rich outputs of a cell."""
WAITING_MAX = 64
START_SECONDS = 60.0
GIVE_UP_SECONDS = 5.0
"""How long an interrupted cell may take to end before the kernel is started again."""
POLL_MS = 100
DELIMITER = b"<IDS|MSG>"
PR_SET_PDEATHSIG = 1
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class KernelError(Exception):
    """The kernel did not start."""


class Kernel:
    """A kernel process and the two channels to it. Used by one thread."""

    def __init__(self):
        import ctypes

        import zmq

        self.prctl = ctypes.CDLL(None).prctl
        self.zmq = zmq
        self.context = zmq.Context()
        self.process = None
        self.folder = ""
        self.shell = self.iopub = None
        self.key = b""
        self.session = ""
        self.id = ""

    def start(self, environment):
        """Start a new process; returns when it answers."""
        self.folder = tempfile.mkdtemp(prefix="thawbox-kernel-")
        self.key = secrets.token_hex(32).encode()
        self.session = secrets.token_hex(16)
        self.id = "-".join(secrets.token_hex(size) for size in (4, 2, 2, 2, 6))
        ports = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}
        connection = os.path.join(self.folder, "kernel.json")
        address = os.path.join(self.folder, "socket")
        with open(os.open(connection, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            # Sockets in a folder of our user: nobody else, inside or outside, can reach them.
            json.dump(
                dict(
                    ports, transport="ipc", ip=address, key=self.key.decode(), signature_scheme="hmac-sha256"
                ),
                file,
            )
        self.shell = self._connect(self.zmq.DEALER, address + "-1")
        self.iopub = self._connect(self.zmq.SUB, address + "-2")
        self.iopub.setsockopt(self.zmq.SUBSCRIBE, b"")
        parent = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipykernel_launcher", "-f", connection],
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: self._die_with(parent),
        )
        self._wait_until_it_answers()

    def _die_with(self, parent):
        """In the new process: end when our owner ends."""
        self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    def _connect(self, kind, path):
        channel = self.context.socket(kind)
        channel.setsockopt(self.zmq.LINGER, 0)
        channel.setsockopt(self.zmq.RECONNECT_IVL, 20)
        channel.connect("ipc://" + path)
        return channel

    def _wait_until_it_answers(self):
        """Until a reply has come, and something on iopub, so that no output can be missed."""
        deadline = time.monotonic() + START_SECONDS
        replied = heard = False
        asked = 0.0
        while not (replied and heard):
            if not self.alive or time.monotonic() > deadline:
                self.stop()
                raise KernelError("the kernel does not start")
            if time.monotonic() - asked > 1.0:
                asked = time.monotonic()
                self.send("kernel_info_request", {})
            for channel, message in self.receive(POLL_MS):
                replied = replied or channel is self.shell
                heard = heard or channel is self.iopub
        while self.receive(0):  # what the other answers to our questions still say
            pass

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def interrupt(self):
        """As Ctrl-C: to the kernel and what it runs."""
        self._signal(signal.SIGINT)

    def stop(self):
        """Kill it and everything that it runs; forget its channels."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
        for channel in (self.shell, self.iopub):
            if channel is not None:
                channel.close()
        self.shell = self.iopub = None
        if self.folder:
            import shutil

            shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def send(self, kind, content):
        """Send a request; returns its id."""
        name = secrets.token_hex(16)
        header = {
            "msg_id": name,
            "session": self.session,
            "username": "",
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "msg_type": kind,
            "version": "5.3",
        }
        parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
        self.shell.send_multipart([DELIMITER, self._sign(parts), *parts])
        return name

    def receive(self, timeout_ms, watched=None):
        """(channel, message) pairs that have come within ``timeout_ms``; returns early when ``watched`` stirs."""
        poller = self.zmq.Poller()
        for channel in (self.shell, self.iopub):
            poller.register(channel, self.zmq.POLLIN)
        if watched is not None:
            poller.register(watched, self.zmq.POLLIN)
        ready = dict(poller.poll(timeout_ms))
        found = []
        for channel in (self.iopub, self.shell):
            while channel in ready:
                try:
                    frames = channel.recv_multipart(self.zmq.NOBLOCK)
                except self.zmq.Again:
                    break
                message = self._read(frames)
                if message is not None:
                    found.append((channel, message))
        return found

    def _read(self, frames):
        """The message in ``frames``: its type, the id of what it answers, its content; None if it is none."""
        try:
            at = frames.index(DELIMITER)
            parts = frames[at + 2 : at + 6]
            if not hmac.compare_digest(self._sign(parts), frames[at + 1]):
                return None
            header, parent, _, content = (json.loads(part.decode("utf-8", "replace")) for part in parts)
            return header["msg_type"], parent.get("msg_id"), content
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None

    def _sign(self, parts):
        signature = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            signature.update(part)
        return signature.hexdigest().encode()


class Cell:
    """A cell that waits or runs, and the connection of who asked for it."""

    def __init__(self, connection, environment, request):
        self.connection = connection
        self.environment = environment
        self.code = str(request.get("code") or "")
        self.timeout = float(request.get("timeout") or 60.0)
        self.env = dict(request.get("env") or {})
        self.sandbox = str(request.get("sandbox") or "")
        self.asked = time.monotonic()
        self.room = {"stdout": TEXT_MAX, "stderr": TEXT_MAX}
        self.data_room = DATA_MAX
        self.truncated = False
        self.gone = False

    def tell(self, event):
        """Send an event, unless nobody listens any more."""
        if self.gone:
            return
        try:
            self.connection.sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            self.gone = True

    def text(self, name, text):
        """Output, as far as there is room."""
        room = self.room[name]
        self.truncated = self.truncated or len(text) > room
        self.room[name] -= min(len(text), room)
        if room:
            self.tell({"type": name, "text": text[:room]})

    def rich(self, kind, data):
        """A value or a display, if there is room."""
        size = len(json.dumps(data))
        if size > self.data_room:
            self.truncated = True
            data = {"text/plain": str(data.get("text/plain") or "")[:10000]}
        self.data_room -= min(size, self.data_room)
        self.tell({"type": kind, "data": data})

    def hung_up(self):
        """Whether who asked has gone: there is nothing more for them to say."""
        if not self.gone:
            poller = select.poll()
            poller.register(self.connection, select.POLLIN)
            self.gone = bool(poller.poll(0))
        return self.gone


NEEDED = frozenset(("PATH", "HOME", "USER", "LANG"))
"""Variables that every program has, whether or not its sandbox says so."""


class Bridge:
    """Runs cells, one after the other."""

    def __init__(self):
        self.kernel = Kernel()
        self.waiting = queue.Queue(WAITING_MAX)
        self.base = dict(os.environ)
        self.applied = {}
        """What the kernel has on top of ``base``: the sandbox's, and its last cell's."""
        self.sandbox = None
        self.state = "starting"
        self.last_activity = time.time()
        self.connections = 0
        self.lock = threading.Lock()

    def start(self):
        """Start a kernel that knows nothing."""
        self.state = "starting"
        self.kernel.stop()
        self.kernel.start({**self.base, **self.applied})
        self.state = "idle"

    def run_for_ever(self):
        """The main thread's: a cell at a time."""
        while True:
            cell = self.waiting.get()
            try:
                self._run(cell)
            except Exception as error:
                cell.text("stderr", "the kernel is of no use: %s: %s\n" % (type(error).__name__, error))
                self._end(cell, "crashed", 0.0, restarted=True)
                self.kernel.stop()
            finally:
                self.state = "idle" if self.kernel.alive else "dead"
                self.last_activity = time.time()
                cell.connection.close()
                with self.lock:
                    self.connections -= 1

    def _run(self, cell):
        if cell.hung_up():
            return
        if time.monotonic() - cell.asked > cell.timeout:
            cell.text("stderr", "the cells before this one took longer than its %g s\n" % cell.timeout)
            self._end(cell, "timeout", 0.0)
            return
        if self.sandbox is None:
            # We may have been started with what belongs to this sandbox, and another may have this memory one day.
            for name, value in cell.environment.items():
                if self.base.get(name) == value and name not in NEEDED:
                    self.applied[name] = self.base.pop(name)
        restarted = False
        if not self.kernel.alive:
            # The first time it has not lived yet.
            restarted = self.sandbox is not None
            self.start()
            if restarted:
                cell.text("stderr", "the kernel had ended and was started again: its variables are gone\n")
        self.state = "busy"
        self._settle(cell)
        began = time.monotonic()
        status = self._execute(cell, cell.code, began + cell.timeout, silent=False)
        seconds = time.monotonic() - began
        if status == "timeout":
            cell.text("stderr", "timed out after %g s\n" % cell.timeout)
        if not self.kernel.alive or status in ("stuck", "crashed"):
            died = status != "stuck"
            cell.text(
                "stderr",
                "the kernel %s and was started again: its variables are gone\n"
                % (self._how_it_died() if died else "did not stop after %g s" % cell.timeout),
            )
            restarted = True
            self.start()
            status = "crashed" if died else "timeout"
        self._end(cell, status, seconds, restarted)

    def _how_it_died(self):
        try:
            status = self.kernel.process.wait(1)
        except subprocess.TimeoutExpired:
            return "died"
        return "was killed by signal %d" % -status if status < 0 else "ended with status %d" % status

    def _end(self, cell, status, seconds, restarted=False):
        cell.tell(
            {
                "type": "end",
                "status": status,
                "seconds": round(seconds, 6),
                "restarted": restarted,
                "truncated": cell.truncated,
            }
        )

    def _settle(self, cell):
        """Before a cell: fresh random state in a new sandbox, and the environment that the cell should have."""
        if self.sandbox != cell.sandbox:
            with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "thawbox_fresh.py")) as file:
                source = file.read() + "\nrefresh()\n"
            self._execute(
                None,
                "exec(%r, {'__name__': 'thawbox_fresh'})" % (source,),
                time.monotonic() + 10,
                silent=True,
            )
            self.sandbox = cell.sandbox
        wanted = dict(self.base)
        wanted.update(cell.environment)
        wanted.update(cell.env)
        before = dict(self.base)
        before.update(self.applied)
        changed = {name: value for name, value in wanted.items() if before.get(name) != value}
        gone = [name for name in before if name not in wanted]
        if changed or gone:
            code = "exec(%r, {})" % (
                "import os\nos.environ.update(%r)\nfor name in %r: os.environ.pop(name, None)"
                % (changed, gone),
            )
            self._execute(None, code, time.monotonic() + 10, silent=True)
            self.applied = {name: value for name, value in wanted.items() if self.base.get(name) != value}

    def _execute(self, cell, code, deadline, silent):
        """Run ``code``: ok, error, timeout, stuck (it did not end when interrupted) or crashed."""
        kernel = self.kernel
        name = kernel.send(
            "execute_request",
            {
                "code": code,
                "silent": silent,
                "store_history": not silent,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
        )
        reply = None
        idle = False
        interrupted = given_up = None
        timed_out = False
        while reply is None or not idle:
            watched = None if cell is None or cell.gone else cell.connection
            for channel, (kind, parent, content) in kernel.receive(POLL_MS, watched):
                if parent != name:
                    continue
                if channel is kernel.shell:
                    reply = content
                elif kind == "status":
                    idle = idle or content.get("execution_state") == "idle"
                elif cell is not None:
                    _pass_on(cell, kind, content)
            now = time.monotonic()
            if not kernel.alive:
                return "crashed"
            timed_out = timed_out or now > deadline
            if timed_out or (watched is not None and cell.hung_up()) or (cell is not None and cell.gone):
                given_up = given_up or now + GIVE_UP_SECONDS
                if now > given_up:
                    return "stuck"
                if interrupted is None or now > interrupted + 1.0:
                    interrupted = now
                    kernel.interrupt()
        if timed_out:
            return "timeout"
        return "ok" if reply.get("status") == "ok" else "error"


def _pass_on(cell, kind, content):
    """An output message of the kernel as an event."""
    if kind == "stream":
        cell.text("stderr" if content.get("name") == "stderr" else "stdout", str(content.get("text") or ""))
    elif kind == "error":
        trace = "\n".join(content.get("traceback") or [])
        cell.text("stderr", COLOURS.sub("", trace) + "\n")
    elif kind == "execute_result":
        cell.rich("result", content.get("data") or {})
    elif kind in ("display_data", "update_display_data"):
        cell.rich("display", content.get("data") or {})


def listen_for_ever(listener, bridge):
    """The listening thread's."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.05)
            continue
        threading.Thread(target=_welcome, args=(connection, bridge), daemon=True).start()


def _welcome(connection, bridge):
    try:
        connection.settimeout(30)
        with connection.makefile("rb") as lines:
            environment = json.loads(lines.readline(REQUEST_MAX))
            request = json.loads(lines.readline(REQUEST_MAX))
        if request["op"] == "execute":
            cell = Cell(connection, environment, request)
            with bridge.lock:
                bridge.connections += 1
            try:
                bridge.waiting.put_nowait(cell)
            except queue.Full:
                with bridge.lock:
                    bridge.connections -= 1
                cell.text("stderr", "%d cells are waiting already\n" % WAITING_MAX)
                bridge._end(cell, "refused", 0.0)
                connection.close()
            return
        connection.sendall(json.dumps(_status(bridge)).encode() + b"\n")
        connection.close()
    except (OSError, ValueError, KeyError, TypeError):
        connection.close()


def _status(bridge):
    return {
        "kernel_id": bridge.kernel.id,
        "execution_state": bridge.state,
        "connections": bridge.connections,
        "last_activity": bridge.last_activity,
    }


def start(options):
    """Start the bridge in the background unless it runs; returns the exit status."""
    import importlib.util

    if any(importlib.util.find_spec(name) is None for name in ("ipykernel", "zmq")):
        sys.stderr.write("%s has no ipykernel\n" % (sys.executable,))
        return NO_IPYKERNEL
    os.makedirs(options.folder, mode=0o700, exist_ok=True)
    state = os.lstat(options.folder)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
        sys.stderr.write("%s is in the way: it should be a folder of this user alone\n" % (options.folder,))
        return 1
    lock = os.open(os.path.join(options.folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    path = os.path.join(options.folder, "kernel.sock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # it runs, or is about to: the socket is there before the lock is let go by anybody
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(128)
    ready, tell = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        status = 1
        try:
            os.setsid()
            _leave_terminal(os.path.join(options.folder, "kernel.log"))
            serve(listener, tell)
        except KeyboardInterrupt:
            pass
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(tell)
    if options.wait:
        if os.read(ready, 1) != b"\1":
            with open(os.path.join(options.folder, "kernel.log"), errors="replace") as log:
                sys.stderr.write("the kernel does not start:\n" + log.read()[-4000:])
            return 1
    return 0


def _leave_terminal(path):
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


def serve(listener, tell):
    """Be the bridge; does not return."""
    os.environ.pop("JPY_PARENT_PID", None)
    bridge = Bridge()
    threading.Thread(target=listen_for_ever, args=(listener, bridge), daemon=True).start()
    bridge.start()
    try:
        os.write(tell, b"\1")
    except BrokenPipeError:  # who started us does not wait
        pass
    os.close(tell)
    bridge.run_for_ever()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("op", choices=["start"])
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--folder", default=FOLDER % os.geteuid())
    return start(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
