"""``job``, ``jobs`` and ``kill``: background jobs. Part of process 1; standard library only.

Records of jobs are kept here, and their output in a folder that belongs to root, so that both outlive the client, the
server outside and a freeze. A job that is over is kept for ``KEPT_SECONDS``, up to ``KEPT_MAX`` jobs and
``KEPT_BYTES`` of output.
"""

import _thread
import os
import time

from . import children, protocol, spawn
from .background_job import JobRecord, OutputCollector
from .program import Program, program_of
from .wire import ClientConnection, OperationError, integer, text

Request = dict[str, object]

FOLDER = "/var/lib/thawbox/jobs"
RUNNING_MAX = 64
KEPT_MAX = 100
KEPT_SECONDS = 3600.0
KEPT_BYTES = 256 << 20
"""Bytes of output of all jobs that are over."""
LOG_MAX = 4 << 20
"""Bytes of each of a job's output streams that are kept, unless its request has a lower limit."""
META_MAX = 32 << 10
"""Bytes of a job's ``meta`` as JSON."""
TAIL = 8192
"""Bytes of each stream that a report holds."""
KILL_SECONDS = 2.0
"""How long ``kill`` waits for the end of a job."""


_lock = _thread.allocate_lock()
_jobs: dict[str, JobRecord] = {}


def start(
    connection: ClientConnection, request: Request, shared: dict[str, str], root: str
) -> dict[str, object]:
    """``job``: start a program. With ``stdin``, its input follows as DATA and END.

    ``id`` is chosen by the client; ``meta`` is an object that reports repeat. A program that cannot be started becomes
    a job that has failed already.

    Raises:
        OperationError: TOO_MANY jobs run, EXISTS already, or as ``program_of``.
    """
    name, meta = text(request, "id"), request.get("meta") or {}
    if len(name) > 64 or not (name.isascii() and name.isalnum()):
        raise OperationError("INVALID", "id must be up to 64 letters and digits")
    if not isinstance(meta, dict) or len(protocol.encode_json(meta)) > META_MAX:
        raise OperationError("INVALID", f"meta must be an object of at most {META_MAX} bytes")
    program = program_of(request, shared, root)
    folder = root + FOLDER
    os.makedirs(folder, 0o700, exist_ok=True)
    job = JobRecord(name, meta, f"{folder}/{name}")
    with _lock:
        _forget()
        if name in _jobs:
            raise OperationError("EXISTS", f"there is a job {name} already")
        if sum(other.ended is None for other in _jobs.values()) >= RUNNING_MAX:
            raise OperationError(
                "TOO_MANY", f"{RUNNING_MAX} jobs are running already: wait for one, or kill one"
            )
        _jobs[name] = job
    try:
        _start(connection, request, program, job)
    except BaseException:
        with _lock:
            _drop(job)
        program.remove_scratch()
        raise
    return {"id": job.id, "pid": job.pid, "started": job.started}


def _start(connection: ClientConnection, request: Request, program: Program, job: JobRecord) -> None:
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
            job.child, watched = spawn.spawn(
                program.argv, program.env, program.cwd, program.user, stdio, imports=program.imports
            )
        except spawn.StartError as error:
            os.write(fds[2], error.message.encode("utf-8", "replace") + b"\n")
            job.sizes[1] = len(error.message) + 1
            job.code = error.code
            job.finish(program)
            return
        job.pid = job.child.pid
        streams = [(pipes[0][0], os.dup(fds[1]), 0), (pipes[1][0], os.dup(fds[2]), 1)]
        for reading, _ in pipes:
            fds.remove(reading)
        collector = OutputCollector(job, program, watched, streams, min(program.limit or LOG_MAX, LOG_MAX))
        try:
            _thread.start_new_thread(collector.run, ())
        except RuntimeError:
            children.kill_session(job.child)
            collector.close()
            raise OperationError("EAGAIN", "the agent has no thread left for another job") from None
    finally:
        for fd in fds:
            os.close(fd)


def _open_null() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _input(connection: ClientConnection, path: str) -> int:
    """Receive the client's DATA into a file at ``path`` and unlink it; returns a descriptor for reading."""
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
                    raise OperationError("INVALID", f"a frame of kind {kind} where input was expected")
                view = memoryview(payload)
                while view:
                    view = view[os.write(writing, view) :]
        except BaseException:
            os.close(reading)
            raise
    finally:
        os.close(writing)


def _forget() -> None:
    """Drop jobs that are over and too old, or too many. The caller holds the lock."""
    over = sorted((job for job in _jobs.values() if job.ended is not None), key=lambda job: job.ended or 0.0)
    kept = sum(sum(job.sizes) for job in over)
    now = time.time()
    for at, job in enumerate(over):
        old = now - (job.ended or now) > KEPT_SECONDS
        if not old and len(over) - at < KEPT_MAX and kept <= KEPT_BYTES:
            return
        kept -= sum(job.sizes)
        _drop(job)


def _drop(job: JobRecord) -> None:
    _jobs.pop(job.id, None)
    for suffix in (".out", ".err"):
        try:  # noqa: SIM105
            os.unlink(job.log + suffix)
        except OSError:
            pass


def report(connection: ClientConnection, request: Request) -> None:
    """``jobs``: one DATA frame for each job, or for the one with ``id``, oldest first; then END.

    Raises:
        OperationError: NO_JOB.
    """
    with _lock:
        _forget()
        jobs = list(_jobs.values())
    if request.get("id") is not None:
        name = text(request, "id")
        jobs = [job for job in jobs if job.id == name]
        if not jobs:
            raise OperationError("NO_JOB", f"there is no job {name}")
    tail = integer(request, "tail", TAIL) or 0
    for job in jobs:
        connection.send(protocol.DATA, protocol.encode_json(_describe(job, min(tail, TAIL))))
    connection.send(protocol.END)


def _describe(job: JobRecord, tail: int) -> dict[str, object]:
    ended = job.ended  # read first: if it is set, all other fields are final
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
    """``kill``: send SIGKILL to the session of the job ``id``, or to the process ``pid``; wait for a job's end.

    Raises:
        OperationError: NO_PROCESS.
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
    raise OperationError("NO_PROCESS", f"there is no process {name if name is not None else pid}")
