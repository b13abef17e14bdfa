"""The cells of a sandbox, run one at a time in its kernel. For the template's own Python, 3.8 or newer."""

import json
import os
import queue
import re
import select
import subprocess
import threading
import time

import thawbox_kernel

TEXT_MAX = 4 << 20
"""Characters of each of stdout and stderr that a cell may print; the rest is dropped."""
DATA_MAX = 16 << 20
"""Bytes of all rich outputs of a cell."""
WAITING_MAX = 64
"""Cells that may wait while another one runs."""
GIVE_UP_SECONDS = 5.0
"""How long an interrupted cell may take to end before the kernel is started again."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Cell:
    """A cell that waits or runs, and its client's connection.

    Raises ValueError or TypeError if the request is ill-formed.
    """

    def __init__(self, connection, environment, request):
        self.connection = connection
        self.environment = environment
        self.code = str(request.get("code") or "")
        self.timeout = float(request.get("timeout") or 60.0)
        self.env = dict(request.get("env") or {})
        self.sandbox = str(request.get("sandbox") or "")
        self.queued = time.monotonic()
        self.room = {"stdout": TEXT_MAX, "stderr": TEXT_MAX}
        self.data_room = DATA_MAX
        self.truncated = False
        self.client_left = False

    def send(self, event):
        """Send an event, unless the client has left."""
        if self.client_left:
            return
        try:
            self.connection.sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            self.client_left = True

    def send_text(self, name, text):
        """Send output of the stream ``name``, as far as there is room."""
        room = self.room[name]
        self.truncated = self.truncated or len(text) > room
        self.room[name] -= min(len(text), room)
        if room:
            self.send({"type": name, "text": text[:room]})

    def send_rich(self, kind, data):
        """Send a value or a display (a table of MIME types), if there is room; else its plain text alone."""
        size = len(json.dumps(data))
        if size > self.data_room:
            self.truncated = True
            data = {"text/plain": str(data.get("text/plain") or "")[:10000]}
        self.data_room -= min(size, self.data_room)
        self.send({"type": kind, "data": data})

    def send_end(self, status, seconds, restarted=False):
        """Send the last event."""
        self.send(
            {
                "type": "end",
                "status": status,
                "seconds": round(seconds, 6),
                "restarted": restarted,
                "truncated": self.truncated,
            }
        )

    def check_client(self):
        """Whether the client has left. It sends nothing after its request: an event on its connection is the end."""
        if not self.client_left:
            poller = select.poll()
            poller.register(self.connection, select.POLLIN)
            self.client_left = bool(poller.poll(0))
        return self.client_left


NEEDED = frozenset(("PATH", "HOME", "USER", "LANG"))
"""Variables that every program has, whether or not its sandbox sets them."""


class CellRunner:
    """Owns the kernel and runs cells in it, one after the other."""

    def __init__(self):
        self.kernel = thawbox_kernel.Kernel()
        self.waiting = queue.Queue(WAITING_MAX)
        self.base = dict(os.environ)
        self.applied = {}
        """Variables that the kernel has on top of ``base``: the sandbox's, and its last cell's."""
        self.sandbox = None
        self.state = "starting"
        self.last_activity = time.time()
        self.connections = 0
        self.lock = threading.Lock()

    def submit(self, cell):
        """Queue a cell; False if WAITING_MAX cells wait already."""
        with self.lock:
            self.connections += 1
        try:
            self.waiting.put_nowait(cell)
        except queue.Full:
            with self.lock:
                self.connections -= 1
            return False
        return True

    def status(self):
        """The answer to a "status" request. Times are seconds since 1970."""
        return {
            "kernel_id": self.kernel.id,
            "execution_state": self.state,
            "connections": self.connections,
            "last_activity": self.last_activity,
        }

    def start(self):
        """Start a new kernel, without the variables of one that ran before."""
        self.state = "starting"
        self.kernel.stop()
        self.kernel.start({**self.base, **self.applied})
        self.state = "idle"

    def run_for_ever(self):
        """Run the queued cells, one at a time. For the main thread."""
        while True:
            cell = self.waiting.get()
            try:
                self._run(cell)
            except Exception as error:
                cell.send_text("stderr", "the kernel failed: %s: %s\n" % (type(error).__name__, error))
                cell.send_end("crashed", 0.0, restarted=True)
                self.kernel.stop()
            finally:
                self.state = "idle" if self.kernel.alive else "dead"
                self.last_activity = time.time()
                cell.connection.close()
                with self.lock:
                    self.connections -= 1

    def _run(self, cell):
        if cell.check_client():
            return
        if time.monotonic() - cell.queued > cell.timeout:
            cell.send_text("stderr", "the cells before this one took longer than its %g s\n" % cell.timeout)
            cell.send_end("timeout", 0.0)
            return
        if self.sandbox is None:
            # This process may have been started with variables of this sandbox; a fork of it must be able to drop them.
            for name, value in cell.environment.items():
                if self.base.get(name) == value and name not in NEEDED:
                    self.applied[name] = self.base.pop(name)
        restarted = False
        if not self.kernel.alive:
            restarted = self.sandbox is not None  # else this is its first start
            self.start()
            if restarted:
                cell.send_text(
                    "stderr", "the kernel had ended and was started again: its variables are gone\n"
                )
        self.state = "busy"
        self._settle(cell)
        began = time.monotonic()
        status = self._execute(cell, cell.code, began + cell.timeout, silent=False)
        seconds = time.monotonic() - began
        if status == "timeout":
            cell.send_text("stderr", "timed out after %g s\n" % cell.timeout)
        if not self.kernel.alive or status in ("stuck", "crashed"):
            died = status != "stuck"
            cell.send_text(
                "stderr",
                "the kernel %s and was started again: its variables are gone\n"
                % (self._how_it_died() if died else "did not stop after %g s" % cell.timeout),
            )
            restarted = True
            self.start()
            status = "crashed" if died else "timeout"
        cell.send_end(status, seconds, restarted)

    def _how_it_died(self):
        try:
            status = self.kernel.process.wait(1)
        except subprocess.TimeoutExpired:
            return "died"
        return "was killed by signal %d" % -status if status < 0 else "ended with status %d" % status

    def _settle(self, cell):
        """Prepare the kernel for a cell: new random seeds if the sandbox is a new one, and the cell's environment."""
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
        """Run ``code``; returns ok, error, timeout, stuck (it did not end when interrupted) or crashed."""
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
            watched = None if cell is None or cell.client_left else cell.connection
            for channel, (kind, parent, content) in kernel.receive(thawbox_kernel.POLL_MS, watched):
                if parent != name:
                    continue
                if channel is kernel.shell:
                    reply = content
                elif kind == "status":
                    idle = idle or content.get("execution_state") == "idle"
                elif cell is not None:
                    _send_output(cell, kind, content)
            now = time.monotonic()
            if not kernel.alive:
                return "crashed"
            timed_out = timed_out or now > deadline
            if timed_out or (cell is not None and cell.check_client()):
                given_up = given_up or now + GIVE_UP_SECONDS
                if now > given_up:
                    return "stuck"
                if interrupted is None or now > interrupted + 1.0:
                    interrupted = now
                    kernel.interrupt()
        if timed_out:
            return "timeout"
        return "ok" if reply.get("status") == "ok" else "error"


def _send_output(cell, kind, content):
    """Send an output message of the kernel as an event."""
    if kind == "stream":
        cell.send_text(
            "stderr" if content.get("name") == "stderr" else "stdout", str(content.get("text") or "")
        )
    elif kind == "error":
        trace = "\n".join(content.get("traceback") or [])
        cell.send_text("stderr", COLOURS.sub("", trace) + "\n")
    elif kind == "execute_result":
        cell.send_rich("result", content.get("data") or {})
    elif kind in ("display_data", "update_display_data"):
        cell.send_rich("display", content.get("data") or {})
