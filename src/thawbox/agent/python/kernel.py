"""Starts and owns the IPython kernel of a sandbox. For the template's own Python, 3.8 or newer, with ipykernel.

``kernel.py start`` makes sure that the kernel runs, in the background. With ``--wait`` it returns when code can run.
Exit status 3: this Python has no ipykernel.

This process, the kernel and the code all run as the user who started them. The socket, ``kernel.sock``, lies in a
folder of that user, so it gives nobody more than they have. A request is two lines of JSON, first the sandbox's
environment, then::

    {"op": "status"}                                        answered by one line
    {"op": "execute", "code", "timeout", "env", "sandbox"}  answered by events, the last of which is "end"

Events are lines ``{"type": "stdout" | "stderr", "text"}``, ``{"type": "result" | "display", "data": {MIME: content}}``
and ``{"type": "end", "status": "ok" | "error" | "timeout" | "crashed" | "refused", "seconds", "restarted", ...}``.
One cell runs at a time, the others wait. A client that closes its connection interrupts its cell.

``thawbox_cells`` runs the cells, ``thawbox_kernel`` is the kernel's process. Only the background process imports
them, so that a ``start`` that finds the kernel running is quick.
"""

import argparse
import fcntl
import os
import socket
import stat
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = "/tmp/thawbox-kernel-%d"
"""By user id."""
NO_IPYKERNEL = 3
REQUEST_MAX = 4 << 20
"""Bytes of each line of a request."""
REQUEST_SECONDS = 30
"""How long a client may take for its request."""


def start(options):
    """Start the background process unless it runs; returns the exit status."""
    import importlib.util

    if any(importlib.util.find_spec(name) is None for name in ("ipykernel", "zmq")):
        sys.stderr.write("%s has no ipykernel\n" % (sys.executable,))
        return NO_IPYKERNEL
    os.makedirs(options.folder, mode=0o700, exist_ok=True)
    state = os.lstat(options.folder)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
        sys.stderr.write("%s must be a folder that only this user can enter\n" % (options.folder,))
        return 1
    lock = os.open(os.path.join(options.folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    path = os.path.join(options.folder, "kernel.sock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # it runs, or is about to: whoever holds the lock makes the socket
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(128)
    ready, report = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        status = 1
        try:
            os.setsid()
            _leave_terminal(os.path.join(options.folder, "kernel.log"))
            serve(listener, report)
        except KeyboardInterrupt:
            pass
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(report)
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


def serve(listener, ready):
    """Own the kernel and serve ``listener``; writes a byte to ``ready`` when code can run. Does not return."""
    import threading

    if HERE not in sys.path:  # PYTHONSAFEPATH leaves it out
        sys.path.insert(0, HERE)
    import thawbox_cells

    os.environ.pop("JPY_PARENT_PID", None)
    runner = thawbox_cells.CellRunner()
    threading.Thread(target=accept_for_ever, args=(listener, runner), daemon=True).start()
    runner.start()
    try:
        os.write(ready, b"\1")
    except BrokenPipeError:  # the starter does not wait
        pass
    os.close(ready)
    runner.run_for_ever()


def accept_for_ever(listener, runner):
    """Serve every connection in a thread of its own."""
    import threading
    import time

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.05)
            continue
        threading.Thread(target=_serve_client, args=(connection, runner), daemon=True).start()


def _serve_client(connection, runner):
    import json

    import thawbox_cells

    try:
        connection.settimeout(REQUEST_SECONDS)
        with connection.makefile("rb") as lines:
            environment = json.loads(lines.readline(REQUEST_MAX))
            request = json.loads(lines.readline(REQUEST_MAX))
        if request["op"] == "execute":
            cell = thawbox_cells.Cell(connection, environment, request)
            if runner.submit(cell):
                return  # the runner closes the connection
            cell.send_text("stderr", "%d cells are waiting already\n" % thawbox_cells.WAITING_MAX)
            cell.send_end("refused", 0.0)
        else:
            connection.sendall(json.dumps(runner.status()).encode() + b"\n")
        connection.close()
    except (OSError, ValueError, KeyError, TypeError):
        connection.close()


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("op", choices=["start"])
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--folder", default=FOLDER % os.geteuid())
    return start(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
