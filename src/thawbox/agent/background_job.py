"""A background job: its record, and its output moved into files. Part of process 1; standard library only."""

import _thread
import os
import select
import time

from . import children
from .program import Program

READ = 64 * 1024
PIPE_MAX = 1 << 20
"""A pipe holds at most this many bytes."""
TIMED_OUT = 124


class JobRecord:
    """A job and how it ended. Times are seconds since 1970. ``done`` is held while the job runs."""

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

    def finish(self, program: Program) -> None:
        """Record the end, after ``code`` has been set."""
        program.remove_scratch()
        self.seconds = time.monotonic() - self.child.started if self.child is not None else 0.0
        self.ended = time.time()
        self.done.release()


class OutputCollector:
    """Moves one job's output into its files, kills it after its timeout, and records how it ended.

    It goes on as long as the job's descendants hold the pipes, so that a program which the job left behind does not
    die of a closed pipe.
    """

    def __init__(
        self,
        job: JobRecord,
        program: Program,
        watched: int,
        streams: list[tuple[int, int, int]],
        limit: int,
    ) -> None:
        self.job = job
        self.program = program
        self.watched = watched
        self.streams = streams
        """Pipe, file (both descriptors), and 0 for standard output or 1 for standard error."""
        self.limit = limit

    def run(self) -> None:
        """For a thread of its own; returns when the pipes are closed."""
        try:
            self._collect()
        finally:
            self.close()

    def _collect(self) -> None:
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
                    for _ in range(PIPE_MAX // READ):  # what comes after it is not the job's own
                        if not self._read(stream):
                            break
                os.close(self.watched)
                self.watched = -1
                deadline = None
                assert child.status is not None
                job.code = TIMED_OUT if job.timed_out else children.exit_code(child.status)[0]
                job.finish(self.program)
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
            except OSError:  # the disk is full: the job goes on, without its output
                self.job.truncated = True
        return True

    def close(self) -> None:
        """Close every descriptor."""
        for pipe, file, _ in self.streams:
            os.close(pipe)
            os.close(file)
        self.streams = []
        if self.watched >= 0:
            os.close(self.watched)
            self.watched = -1
