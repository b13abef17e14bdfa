"""Background jobs inside a sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thawbox.errors import GuestFault

from .channel import QUICK_S, Endpoint, GuestError, call, connect, deadline, upload
from .fields import Object, field, is_unicode, text_field
from .files import read_file

JOBS_MAX = 1000
"""Most jobs of one sandbox that are accepted; the agent keeps fewer."""
SEND_S = 60.0


@dataclass(frozen=True)
class Job:
    """A job as its agent reports it. Times are seconds since 1970; ``seconds`` is how long it has run."""

    id: str
    meta: Mapping[str, Any]
    """The argument of ``start_job``, unless the sandbox is hostile."""
    pid: int
    started: float
    ended: float | None
    seconds: float
    code: int | None
    """Exit code as a shell gives it, 124 after its timeout; None while it runs."""
    killed: bool
    timed_out: bool
    truncated: bool
    stdout: str
    """The end of its output."""
    stderr: str
    log: str
    """Path of its output inside, without ``.out`` or ``.err``."""


async def start_job(
    endpoint: Endpoint,
    job_id: str,
    *,
    argv: Sequence[str],
    meta: Mapping[str, Any],
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    timeout: float | None = None,
    scratch: bool = False,
    imports: Sequence[str] = (),
) -> tuple[int, float]:
    """Start a command that goes on by itself; returns its pid (0: it could not be started) and when (since 1970).

    The agent kills it after ``timeout`` seconds. ``job_id`` is up to 64 letters and digits. ``imports`` as in ``run``.

    Raises:
        GuestError: TOO_MANY, EXISTS, NO_CWD, UNKNOWN_USER, INVALID, EAGAIN or another errno's name.
    """
    fields: Object = {
        "id": job_id,
        "meta": dict(meta),
        "argv": list(argv),
        "stdin": stdin is not None,
        "env": dict(env or {}),
        "cwd": cwd,
        "user": user,
        "timeout": timeout,
        "scratch": scratch,
        "imports": list(imports),
    }
    if stdin is None:
        answer = await call(endpoint, "job", fields, QUICK_S)
    else:
        async with deadline(SEND_S):
            answer = await upload(endpoint, "job", fields, stdin)
    return field(answer, "pid", int), field(answer, "started", float)


async def list_jobs(endpoint: Endpoint, *, timeout: float = QUICK_S) -> list[Job]:
    """Every job that runs, and those that ended within the last hour, by age, oldest first."""
    return await _report(endpoint, {}, timeout)


async def read_job(
    endpoint: Endpoint, job_id: str, *, output_limit: int | None = None, timeout: float = QUICK_S
) -> Job:
    """One job; with ``output_limit`` (bytes of each stream) its output from the beginning.

    Raises:
        GuestError: NO_JOB.
    """
    found = await _report(endpoint, {"id": job_id}, timeout)
    if len(found) != 1:
        raise GuestFault("the agent reported more or fewer jobs than one")
    if output_limit is None:
        return found[0]
    async with deadline(SEND_S):
        out = await _output(endpoint, found[0].log + ".out", output_limit)
        err = await _output(endpoint, found[0].log + ".err", output_limit)
    return Job(**{**found[0].__dict__, "stdout": out, "stderr": err})


async def kill(
    endpoint: Endpoint, *, job_id: str | None = None, pid: int | None = None, timeout: float = QUICK_S
) -> bool:
    """End a job with its whole session, or a process; False if the job had ended by itself.

    Raises:
        GuestError: NO_PROCESS.
    """
    return field(await call(endpoint, "kill", {"id": job_id, "pid": pid}, timeout), "killed", bool)


async def _report(endpoint: Endpoint, fields: Object, timeout: float) -> list[Job]:
    found: list[Job] = []
    async with deadline(timeout), connect(endpoint, "jobs", fields) as channel:
        async for payload in channel.stream():
            found.append(_job(channel.object(payload)))
            if len(found) > JOBS_MAX:
                raise GuestFault(f"the agent reports more than {JOBS_MAX} jobs")
    return found


def _job(value: Object) -> Job:
    meta = value.get("meta")
    if not isinstance(meta, dict) or not all(
        is_unicode(text) for text in meta.values() if isinstance(text, str)
    ):
        raise GuestFault("the agent's answer has no valid 'meta'")
    return Job(
        id=text_field(value, "id"),
        meta=meta,
        pid=field(value, "pid", int),
        started=_moment(field(value, "started", float)),
        ended=None if value.get("ended") is None else _moment(field(value, "ended", float)),
        seconds=field(value, "seconds", float),
        code=None if value.get("code") is None else field(value, "code", int),
        killed=field(value, "killed", bool),
        timed_out=field(value, "timed_out", bool),
        truncated=field(value, "truncated", bool),
        stdout=text_field(value, "stdout"),
        stderr=text_field(value, "stderr"),
        log=text_field(value, "log"),
    )


def _moment(seconds: float) -> float:
    if not 0 <= seconds < 2**35:  # beyond the years that datetime can represent
        raise GuestFault("the agent's answer has a time that is out of range")
    return seconds


async def _output(endpoint: Endpoint, path: str, limit: int) -> str:
    data = bytearray()
    try:
        async with read_file(endpoint, path, length=limit) as (_, chunks):
            async for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    break
    except GuestError as error:
        if error.code != "NOT_FOUND":  # dropped meanwhile
            raise
    return bytes(data[:limit]).decode("utf-8", "replace")
