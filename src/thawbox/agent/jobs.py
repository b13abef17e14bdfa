"""``job``, ``jobs`` and ``kill``: commands that nobody waits for. Runs inside, standard library only.

What is known about a job is kept here, and its output in a folder of root's, so that both outlive the client, the
server outside and a freeze. A job that is over is kept for ``KEPT_SECONDS``, but never more of them, nor more of
their output, than the numbers below say.
"""

import _thread
import os
import select
import time

from . import children, protocol
from .program import Program, program_of
from .wire import Connection, Refused, integer, text

Request = dict[str, object]

FOLDER = "/var/lib/thawbox/jobs"
RUNNING_MAX = 64
KEPT_MAX = 100
KEPT_SECONDS = 3600.0
KEPT_BYTES = 256 << 20
"""Of the output of all jobs that are over."""
LOG_MAX = 4 << 20
"""Bytes of each of a job's output streams that are kept, unless it asks for less; the rest is thrown away."""
META_MAX = 32 << 10
TAIL = 8192
"""Bytes of each stream that a report holds."""
READ = 64 * 1024
KILL_SECONDS = 2.0
TIMED_OUT = 124


class Job:
    """A job and how it ended. ``done`` is held while it runs."""

    __slots__ = (
        *("child", "code", "done", "ended", "id", "killed", "log", "meta", "pid"),
        *("seconds", "sizes", "started", "timed_out", "truncated"),
    )

    def __init__(self, name: str, meta: dict[str, object], log: str) -> None:
        self.id = name
        self.meta = meta
        self.log = log
        self.child: children.Child | None = None
        self.pid = 0
        self.started = time.time()
        self.ended: float | None = None
        self.seconds = 0.0
        self.code: int | None = None
        self.killed = False
        self.timed_out = False
        self.truncated = False
        self.sizes = [0, 0]
        self.done = _thread.allocate_lock()
        self.done.acquire()


_lock = _thread.allocate_lock()
_jobs: dict[str, Job] = {}


def start(connection: Connection, request: Request, shared: dict[str, str], root: str) -> dict[str, object]:
    """``job``: start a program whose input, if ``stdin`` says so, follows as DATA and END.

    ``id`` is the caller's; ``meta`` an object that reports repeat. A program that cannot be started is a job
    that has failed already.

    Raises:
        Refused: TOO_MANY jobs run, EXISTS already, or as ``program_of``.
    """
    name, meta = text(request, "id"), request.get("meta") or {}
    if len(name) > 64 or not (name.isascii() and name.isalnum()):
        raise Refused("INVALID", "id must be up to 64 letters and digits")
    if not isinstance(meta, dict) or len(protocol.encode_json(meta)) > META_MAX:
        raise Refused("INVALID", f"meta must be an object of at most {META_MAX} bytes")
    program = program_of(request, shared, root)
    folder = root + FOLDER
    os.makedirs(folder, 0o700, exist_ok=True)
    job = Job(name, meta, f"{folder}/{name}")
    with _lock:
        _forget()
        if name in _jobs:
            raise Refused("EXISTS", f"there is a job {name} already")
        if sum(other.ended is None for other in _jobs.values()) >= RUNNING_MAX:
            raise Refused("TOO_MANY", f"{RUNNING_MAX} jobs are running already: wait for one, or end one")
        _jobs[name] = job
    try:
        _start(connection, request, program, job)
    except BaseException:
        with _lock:
            _drop(job)
        program.remove_scratch()
        raise
    return {"id": job.id, "pid": job.pid, "started": job.started}


def _start(connection: Connection, request: Request, program: Program, job: Job) -> None:
    if request.get("scratch"):
        program.make_scratch()
    fds: list[int] = []
    try:
        fds.append(_input(connection, job.log + ".in") if request.get("stdin") else _open_null())
        for suffix in (".out", ".err"):
            fds.append(_create(job.log + suffix))
        pipes = []
        for _ in range(2):
            pipes.append(os.pipe())
            fds += pipes[-1]
            os.set_blocking(pipes[-1][0], False)
        try:
            stdio = (fds[0], pipes[0][1], pipes[1][1])
            job.child, watched = children.spawn(
                program.argv, program.env, program.cwd, program.user, stdio, imports=program.imports
            )
        except children.StartError as error:
            os.write(fds[2], error.message.encode("utf-8", "replace") + b"\n")
            job.sizes[1] = len(error.message) + 1
            job.code = error.code
            _end(job, program)
            return
        job.pid = job.child.pid
        streams = [(pipes[0][0], os.dup(fds[1]), 0), (pipes[1][0], os.dup(fds[2]), 1)]
        for our_end, _ in pipes:
            fds.remove(our_end)
        follower = _Follower(job, program, watched, streams, min(program.limit or LOG_MAX, LOG_MAX))
        try:
            _thread.start_new_thread(follower.run, ())
        except RuntimeError:
            children.kill_session(job.child)
            follower.close()
            raise Refused("EAGAIN", "the agent has no thread left for another job") from None
    finally:
        for fd in fds:
            os.close(fd)


def _open_null() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _input(connection: Connection, path: str) -> int:
    """What the client sends, as a file that has no name any more."""
    writing = _create(path)
    try:
        reading = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.unlink(path)
        try:
            while True:
                kind, payload = connection.next_frame()
                if kind == protocol.END:
                    return reading
                if kind != protocol.DATA:
                    raise Refused("INVALID", f"a frame of kind {kind} where input was expected")
                view = memoryview(payload)
                while view:
                    view = view[os.write(writing, view) :]
        except BaseException:
            os.close(reading)
            raise
    finally:
        os.close(writing)


class _Follower:
    """Moves one job's output into its files, ends it when its time is over, and notes how it ended.

    Goes on after that as long as the job's descendants hold the pipes, so that a program which the job left behind
    does not die of them.
    """

    def __init__(
        self, job: Job, program: Program, watched: int, streams: list[tuple[int, int, int]], limit: int
    ) -> None:
        self.job = job
        self.program = program
        self.watched = watched
        self.streams = streams
        """Pipe, file, and 0 for standard output or 1 for standard error."""
        self.limit = limit

    def run(self) -> None:
        try:
            self._follow()
        finally:
            self.close()

    def _follow(self) -> None:
        job, child = self.job, self.job.child
        assert child is not None
        deadline = None if self.program.timeout is None else child.started + self.program.timeout
        while self.watched >= 0 or self.streams:
            poller = select.poll()
            for fd in (self.watched, *(stream[0] for stream in self.streams)):
                if fd >= 0:
                    poller.register(fd, select.POLLIN)
            left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            ready = dict(poller.poll(left))
            for stream in [stream for stream in self.streams if stream[0] in ready]:
                self._read(stream)
            if self.watched in ready:
                for stream in list(self.streams):
                    # A pipe holds no more than this, so what comes after it is not the job's own.
                    for _ in range((1 << 20) // READ):
                        if not self._read(stream):
                            break
                os.close(self.watched)
                self.watched = -1
                deadline = None
                assert child.status is not None
                job.code = TIMED_OUT if job.timed_out else children.exit_code(child.status)[0]
                _end(job, self.program)
            elif deadline is not None and time.monotonic() >= deadline:
                job.timed_out = True
                deadline = None
                children.kill_session(child)

    def _read(self, stream: tuple[int, int, int]) -> bool:
        pipe, file, number = stream
        try:
            data = os.read(pipe, READ)
        except BlockingIOError:
            return False
        if not data:
            os.close(pipe)
            os.close(file)
            self.streams.remove(stream)
            return False
        room = self.limit - self.job.sizes[number]
        if len(data) > room:
            self.job.truncated = True
        if room > 0:
            try:
                self.job.sizes[number] += os.write(file, data[:room])
            except OSError:  # the disk is full: the job goes on, its output does not
                self.job.truncated = True
        return True

    def close(self) -> None:
        for pipe, file, _ in self.streams:
            os.close(pipe)
            os.close(file)
        self.streams = []
        if self.watched >= 0:
            os.close(self.watched)
            self.watched = -1


def _end(job: Job, program: Program) -> None:
    program.remove_scratch()
    job.seconds = time.monotonic() - job.child.started if job.child is not None else 0.0
    job.ended = time.time()
    job.done.release()


def _forget() -> None:
    """Drop what is over and too old, or too much; the caller holds the lock."""
    over = sorted((job for job in _jobs.values() if job.ended is not None), key=lambda job: job.ended or 0.0)
    kept = sum(sum(job.sizes) for job in over)
    now = time.time()
    for at, job in enumerate(over):
        old = now - (job.ended or now) > KEPT_SECONDS
        if not old and len(over) - at < KEPT_MAX and kept <= KEPT_BYTES:
            return
        kept -= sum(job.sizes)
        _drop(job)


def _drop(job: Job) -> None:
    _jobs.pop(job.id, None)
    for suffix in (".out", ".err"):
        try:  # noqa: SIM105
            os.unlink(job.log + suffix)
        except OSError:
            pass


def report(connection: Connection, request: Request) -> None:
    """``jobs``: one DATA frame for each job, or for the one with ``id``, oldest first; then END.

    Raises:
        Refused: NO_JOB.
    """
    with _lock:
        _forget()
        jobs = list(_jobs.values())
    if request.get("id") is not None:
        name = text(request, "id")
        jobs = [job for job in jobs if job.id == name]
        if not jobs:
            raise Refused("NO_JOB", f"there is no job {name}")
    tail = integer(request, "tail", TAIL) or 0
    for job in jobs:
        connection.send(protocol.DATA, protocol.encode_json(_describe(job, min(tail, TAIL))))
    connection.send(protocol.END)


def _describe(job: Job, tail: int) -> dict[str, object]:
    ended = job.ended  # first: what is read after it is final if this is set
    return {
        "id": job.id,
        "meta": job.meta,
        "pid": job.pid,
        "started": job.started,
        "ended": ended,
        "seconds": job.seconds if ended is not None else max(0.0, time.time() - job.started),
        "code": job.code if ended is not None else None,
        "killed": job.killed,
        "timed_out": job.timed_out,
        "truncated": job.truncated,
        "stdout": _tail(job.log + ".out", tail),
        "stderr": _tail(job.log + ".err", tail),
        "log": job.log,
    }


def _tail(path: str, size: int) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        end = os.fstat(fd).st_size
        return os.pread(fd, size, max(0, end - size)).decode("utf-8", "replace") if size else ""
    except OSError:
        return ""
    finally:
        os.close(fd)


def kill(request: Request) -> dict[str, object]:
    """``kill``: SIGKILL to the session of the job ``id``, or to whatever has ``pid``; waits until a job is over.

    Raises:
        Refused: NO_PROCESS.
    """
    name, pid = request.get("id"), integer(request, "pid", None)
    with _lock:
        if name is not None:
            job = _jobs.get(text(request, "id"))
        else:
            job = next((job for job in _jobs.values() if job.pid == pid and job.ended is None), None)
    if job is not None:
        if job.ended is None and job.child is not None:
            job.killed = True
            children.kill_session(job.child)
            if job.done.acquire(timeout=KILL_SECONDS):
                job.done.release()
        return {"id": job.id, "killed": job.killed}
    if name is None and pid is not None and children.kill(pid):
        return {"id": None, "killed": True}
    raise Refused("NO_PROCESS", f"there is no process {name if name is not None else pid}")
