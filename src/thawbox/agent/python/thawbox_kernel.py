"""The IPython kernel's process and its wire protocol. For the template's own Python, 3.8 or newer, with ipykernel.

jupyter_client would do the same, but needs 25 MB of memory in every sandbox; the protocol is a few lines
(Jupyter's messaging specification, version 5.3).
"""

import ctypes
import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import zmq

START_SECONDS = 60.0
POLL_MS = 100
DELIMITER = b"<IDS|MSG>"
PR_SET_PDEATHSIG = 1


class KernelError(Exception):
    """The kernel did not start."""


class Kernel:
    """A kernel process and the two ZeroMQ channels to it. Used by one thread.

    ``id`` is a UUID, new with every start.
    """

    def __init__(self):
        self.prctl = ctypes.CDLL(None).prctl
        self.context = zmq.Context()
        self.process = None
        self.folder = ""
        self.shell = self.iopub = None
        self.key = b""
        self.session = ""
        self.id = ""

    def start(self, environment):
        """Start a new process with ``environment`` and wait until it answers.

        Raises:
            KernelError: it ended, or did not answer within START_SECONDS.
        """
        self.folder = tempfile.mkdtemp(prefix="thawbox-kernel-")
        self.key = secrets.token_hex(32).encode()
        self.session = secrets.token_hex(16)
        self.id = "-".join(secrets.token_hex(size) for size in (4, 2, 2, 2, 6))
        ports = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}
        connection = os.path.join(self.folder, "kernel.json")
        address = os.path.join(self.folder, "socket")
        with open(os.open(connection, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            # Unix sockets in a folder that only this user can enter.
            json.dump(
                dict(
                    ports, transport="ipc", ip=address, key=self.key.decode(), signature_scheme="hmac-sha256"
                ),
                file,
            )
        self.shell = self._connect(zmq.DEALER, address + "-1")
        self.iopub = self._connect(zmq.SUB, address + "-2")
        self.iopub.setsockopt(zmq.SUBSCRIBE, b"")
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
        """In the new process: have the kernel kill it when ``parent``, its starter, ends."""
        self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    def _connect(self, kind, path):
        channel = self.context.socket(kind)
        channel.setsockopt(zmq.LINGER, 0)
        channel.setsockopt(zmq.RECONNECT_IVL, 20)
        channel.connect("ipc://" + path)
        return channel

    def _wait_until_it_answers(self):
        """Wait for a reply and for a message on iopub: after that no output can be missed."""
        deadline = time.monotonic() + START_SECONDS
        replied = published = False
        sent = 0.0
        while not (replied and published):
            if not self.alive or time.monotonic() > deadline:
                self.stop()
                raise KernelError("the kernel does not start")
            if time.monotonic() - sent > 1.0:
                sent = time.monotonic()
                self.send("kernel_info_request", {})
            for channel, message in self.receive(POLL_MS):
                replied = replied or channel is self.shell
                published = published or channel is self.iopub
        while self.receive(0):  # late replies to repeated requests
            pass

    @property
    def alive(self):
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def interrupt(self):
        """Send SIGINT, as Ctrl-C does, to the kernel and what it runs."""
        self._signal(signal.SIGINT)

    def stop(self):
        """Kill the kernel and everything that it runs; close its channels."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
        for channel in (self.shell, self.iopub):
            if channel is not None:
                channel.close()
        self.shell = self.iopub = None
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def send(self, kind, content):
        """Send a request of type ``kind`` on the shell channel; returns its id."""
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
        """(channel, message) pairs that come within ``timeout_ms``. A message is as ``_decode`` returns it.

        Returns early when ``watched``, a socket or None, becomes readable or is closed.
        """
        poller = zmq.Poller()
        for channel in (self.shell, self.iopub):
            poller.register(channel, zmq.POLLIN)
        if watched is not None:
            poller.register(watched, zmq.POLLIN)
        ready = dict(poller.poll(timeout_ms))
        found = []
        for channel in (self.iopub, self.shell):
            while channel in ready:
                try:
                    frames = channel.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                message = self._decode(frames)
                if message is not None:
                    found.append((channel, message))
        return found

    def _decode(self, frames):
        """The message in ``frames``: (type, id of the request that it answers, content); None if it is not valid."""
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
