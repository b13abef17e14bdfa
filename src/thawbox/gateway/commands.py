"""``POST /commands/run`` (contract E.3)."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse

from thawbox import metrics
from thawbox.errors import GuestFault, InvalidPath, SandboxUnavailable, UserError
from thawbox.guest import client
from thawbox.guest.client import Completed, Endpoint, GuestError
from thawbox.http import context
from thawbox.http.bodies import Body, read_model
from thawbox.sandboxes.contract import SandboxDefaults
from thawbox.store.sandboxes import SandboxRow
from thawbox.timestamps import rfc3339

from .context import context_of, sandbox_of

router = APIRouter(tags=["commands"])

WORKSPACE = "/workspace"
OUTPUT_LIMIT = 4 * 1024 * 1024
"""Bytes of each of stdout and stderr that an answer holds; what is more is dropped, and ``truncated`` says so."""
DEFAULT_TIMEOUT_S = 30
MAX_TIMEOUT_S = 86_400
TIMED_OUT = 124


class RunCommand(Body):
    """With ``args``: a program and its arguments. Without: a line for /bin/sh."""

    command: str = Field(min_length=1)
    args: list[str] | None = None
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = None
    workdir: str | None = None
    working_dir: str | None = None
    env: dict[str, str] | None = None

    @field_validator("command", "workdir", "working_dir")
    @classmethod
    def without_nul(cls, text: str | None) -> str | None:
        """The kernel's strings end at NUL."""
        if text is not None and "\x00" in text:
            raise ValueError("must not hold NUL")
        return text

    @field_validator("args")
    @classmethod
    def args_without_nul(cls, args: list[str] | None) -> list[str] | None:
        """As for the command."""
        if any("\x00" in arg for arg in args or ()):
            raise ValueError("must not hold NUL")
        return args

    @field_validator("env")
    @classmethod
    def usable(cls, env: dict[str, str] | None) -> dict[str, str] | None:
        """Only what can be an environment."""
        for name, value in (env or {}).items():
            if not name or "=" in name or "\x00" in name or "\x00" in value:
                raise ValueError(
                    "names must not be empty nor hold '='; neither names nor values may hold NUL"
                )
        return env


@router.post("/commands/run")
async def run_command(request: Request) -> JSONResponse:
    """Run a command to its end. Whatever it does is a 200: its exit code tells."""
    sandbox = await sandbox_of(request)
    parts = context_of(request)
    asked = await read_model(request, RunCommand, parts.settings.max_body_bytes)
    endpoint = await parts.sandboxes.endpoint(sandbox)
    defaults = await parts.sandboxes.defaults(sandbox)
    started = time.perf_counter()
    try:
        done = await _run(endpoint, asked, defaults)
    except GuestFault as error:
        raise SandboxUnavailable(f"The agent of sandbox {sandbox.id} broke off: {error.message}") from error
    outcome = "timeout" if done.timed_out else "ok" if done.exit_code == 0 else "error"
    metrics.COMMAND_SECONDS.labels(outcome).observe(time.perf_counter() - started)
    return JSONResponse(_answer(sandbox, asked, done))


async def _run(endpoint: Endpoint, asked: RunCommand, defaults: SandboxDefaults) -> Completed:
    wanted = asked.workdir or asked.working_dir
    folders = [wanted] if wanted else [defaults.workdir] if defaults.workdir != "/" else [WORKSPACE, "/"]
    for folder in folders:
        try:
            return await _run_in(endpoint, asked, folder, defaults.user)
        except GuestError as error:
            if error.code == "NO_CWD":
                continue
            if error.code in ("INVALID", "UNKNOWN_USER"):
                raise UserError(f"The command cannot be run: {error.message}.") from error
            return _not_spawned(error)  # out of processes, for example: the user's doing, so a result
    raise InvalidPath(
        f"Field 'workdir': there is no folder {folders[-1][:200]!r} in the sandbox.",
        details={"path": folders[-1]},
    )


def _not_spawned(error: GuestError) -> Completed:
    return Completed(
        exit_code=127,
        signal=None,
        stdout=b"",
        stderr=f"{error.message}\n".encode("utf-8", "replace"),
        timed_out=False,
        truncated=False,
        seconds=0.0,
        pid=0,
    )


async def _run_in(endpoint: Endpoint, asked: RunCommand, cwd: str, user: str | None) -> Completed:
    if not cwd.startswith("/"):
        cwd = f"{WORKSPACE}/{cwd}"
    return await client.run(
        endpoint,
        argv=["/bin/sh", "-c", asked.command] if asked.args is None else [asked.command, *asked.args],
        env=asked.env,
        cwd=cwd,
        user=user,
        timeout=asked.timeout or DEFAULT_TIMEOUT_S,
        output_limit=OUTPUT_LIMIT,
    )


def _answer(sandbox: SandboxRow, asked: RunCommand, done: Completed) -> dict[str, Any]:
    stderr = done.stderr.decode("utf-8", "replace")
    if done.timed_out:
        stderr += f"\n[timed out after {asked.timeout or DEFAULT_TIMEOUT_S:g} s]\n"
    if done.truncated:
        stderr += f"\n[output was cut: only the first {OUTPUT_LIMIT} bytes of each stream are kept]\n"
    exit_code = TIMED_OUT if done.timed_out else done.exit_code
    return {
        "success": exit_code == 0,
        "stdout": done.stdout.decode("utf-8", "replace"),
        "stderr": stderr,
        "exit_code": exit_code,
        "execution_time": done.seconds,
        "command": asked.command,
        "pid": done.pid,
        "timed_out": done.timed_out,
        "truncated": done.truncated,
        "timestamp": rfc3339(time.time()),
        "request_id": context.request_id(),
    }
