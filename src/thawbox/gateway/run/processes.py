"""What runs in a sandbox, and ending it.

What clients rely on: docs/reference/compatibility/execution.md#processes.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import field_validator
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.errors import GuestFault, MissingParameter, ProcessNotFound
from thawbox.gateway.answers import answers
from thawbox.gateway.context import context_of, sandbox_of
from thawbox.gateway.target import target_of
from thawbox.guest import GuestError, Job, ProcessInfo
from thawbox.util.timestamps import rfc3339, rfc3339_or_none
from thawbox.web.bodies import Body, parse, read_json
from thawbox.web.context import request_id

from . import languages
from .answers import JobAnswer, JobItem, JobList, JobStatus, KillAnswer, ProcessItem, ProcessList
from .execution import OUTPUT_LIMIT, agent_silent, agent_unavailable, refusal

router = APIRouter(tags=["processes"])

_STATES: dict[str, Literal["running", "sleeping", "stopped", "zombie"]] = {
    "R": "running",
    "S": "sleeping",
    "D": "sleeping",
    "T": "stopped",
    "t": "stopped",
    "Z": "zombie",
}
_PID_DIGITS = 9


class Kill(Body):
    """What to end: a process id, execution id or system pid."""

    process_id: str | None = None
    execution_id: str | None = None

    @field_validator("process_id", "execution_id", mode="before")
    @classmethod
    def numbers_too(cls, value: Any) -> Any:
        """Some clients send the system's pid as a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@router.get("/execute/processes", responses=answers(JobList))
async def list_executions(request: Request) -> JSONResponse:
    """Background code and commands: those that run, and those that ended within the last hour."""
    target = await target_of(request)
    try:
        items = [job_item(job) for job in await guest.list_jobs(target.endpoint)]
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    answer: JobList = {
        "processes": items,
        "count": len(items),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


@router.get("/execute/processes/{process_id}", responses=answers(JobAnswer))
async def get_execution(request: Request, process_id: str) -> JSONResponse:
    """One background execution, with its output from the beginning."""
    target = await target_of(request)
    try:
        job = await guest.read_job(target.endpoint, job_id_of(process_id), output_limit=OUTPUT_LIMIT)
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    except GuestError as error:
        if error.code in ("NO_JOB", "INVALID"):
            raise _unknown(process_id) from error
        raise refusal(error) from error
    answer: JobAnswer = {**job_item(job), "request_id": request_id()}
    return JSONResponse(answer)


@router.get("/processes", responses=answers(ProcessList))
async def list_processes(request: Request) -> JSONResponse:
    """Every process of the sandbox; background executions carry their ids."""
    target = await target_of(request)
    try:
        found = await guest.list_processes(target.endpoint)
        jobs = {job.pid: job for job in await guest.list_jobs(target.endpoint) if job.ended is None}
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    items = [_process_item(process, jobs.get(process.pid)) for process in found]
    answer: ProcessList = {
        "processes": items,
        "count": len(items),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


@router.post("/execute/kill/{process_id}", responses=answers(KillAnswer))
@router.post("/processes/{process_id}/kill", responses=answers(KillAnswer))
async def kill_process(request: Request, process_id: str) -> JSONResponse:
    """End a background execution with all that it started, or a process by its pid."""
    return await _kill(request, process_id)


@router.post("/execute/kill", responses=answers(KillAnswer))
@router.delete("/execute/kill", responses=answers(KillAnswer))
async def kill_named(request: Request, process_id: str | None = None) -> JSONResponse:
    """End a background execution or a process whose id is in the query or in the body."""
    if process_id is None:
        await sandbox_of(request)
        body = Kill()
        if request.headers.get("content-type"):
            body = parse(Kill, await read_json(request, context_of(request).settings.max_body_bytes))
        process_id = body.process_id or body.execution_id
    if not process_id:
        raise MissingParameter("Give 'process_id': a process id, an execution id or a system pid.")
    return await _kill(request, process_id)


async def _kill(request: Request, process_id: str) -> JSONResponse:
    target = await target_of(request)
    job_id = job_id_of(process_id)
    by_pid = job_id.isascii() and job_id.isdigit()
    if by_pid and len(job_id) > _PID_DIGITS:
        raise _unknown(process_id)
    try:
        if by_pid:
            killed = await guest.kill(target.endpoint, pid=int(job_id))
        else:
            killed = await guest.kill(target.endpoint, job_id=job_id)
    except GuestFault as error:
        raise agent_silent(target, error) from error
    except GuestError as error:
        if error.code in ("NO_PROCESS", "INVALID"):
            raise _unknown(process_id) from error
        raise refusal(error) from error
    answer: KillAnswer = {
        "process_id": process_id,
        "status": "killed" if killed else "exited",
        "message": "Process terminated successfully" if killed else "The process had ended already",
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


def _unknown(process_id: str) -> ProcessNotFound:
    return ProcessNotFound(f"There is no process {process_id[:100]!r} in the sandbox.")


def job_id_of(public_id: str) -> str:
    """The agent's id for a process or execution id of the API; anything else is returned unchanged."""
    return public_id.removeprefix("proc_").removeprefix("exec_")


def status_of(job: Job) -> JobStatus:
    """The status of a job in answers."""
    if job.ended is None:
        return "running"
    if job.killed:
        return "killed"
    return "completed" if job.code == 0 else "failed"


def stderr_of(job: Job) -> str:
    """What the job wrote to stderr, with notes on a missing language, a timeout and dropped output."""
    stderr = job.stderr
    language = job.meta.get("language")
    if isinstance(language, str) and languages.lacks(language, job.pid, job.code, job.stderr):
        stderr += languages.missing(language) + "\n"
    if job.timed_out:
        stderr += f"\n[timed out after {job.seconds:.3g} s]\n"
    if job.truncated:
        stderr += "\n[output was cut: only its beginning is kept]\n"
    return stderr


def job_item(job: Job) -> JobItem:
    """A job as an entry of a list; each time has both names that clients read."""
    started, ended = rfc3339(job.started), rfc3339_or_none(job.ended)
    texts = {
        key: value for key in ("name", "language", "command") if isinstance(value := job.meta.get(key), str)
    }
    return {
        "process_id": f"proc_{job.id}",
        "execution_id": f"exec_{job.id}",
        "name": texts.get("name"),
        "status": status_of(job),
        "language": texts.get("language"),
        "pid": job.pid,
        "start_time": started,
        "started_at": started,
        "end_time": ended,
        "completed_at": ended,
        "exit_code": job.code,
        "duration": job.seconds,
        "execution_time": job.seconds,
        "stdout": job.stdout,
        "stderr": stderr_of(job),
        "command": texts.get("command"),
        "timed_out": job.timed_out,
        "truncated": job.truncated,
    }


def _process_item(process: ProcessInfo, job: Job | None) -> ProcessItem:
    item: ProcessItem = {
        "pid": process.pid,
        "ppid": process.ppid,
        "name": process.name,
        "status": _STATES.get(process.state, "unknown"),
        "cpu_percent": round(100 * process.cpu / process.age, 2) if process.age > 0 else 0.0,
        "memory_mb": round(process.memory / 2**20, 2),
        "command": process.command,
        "user": process.user,
    }
    if job is not None:
        item["process_id"] = f"proc_{job.id}"
        item["execution_id"] = f"exec_{job.id}"
        item["status"] = "running"
    return item
