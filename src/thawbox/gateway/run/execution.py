"""What all requests that run something share: their fields, where they run, and the fields of their answers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, TypeVar

from pydantic import Field, field_validator

from thawbox import metrics
from thawbox.errors import (
    GuestFault,
    GuestUnreachable,
    InvalidPath,
    InvalidState,
    RateLimited,
    SandboxNotFound,
    SandboxSilent,
    SandboxUnavailable,
    UserError,
)
from thawbox.gateway.counters import counted
from thawbox.gateway.target import Target
from thawbox.guest import Completed, GuestError
from thawbox.sandboxes.serving import ServingContext
from thawbox.store import sandboxes
from thawbox.store.enums import SandboxStatus
from thawbox.web.bodies import Body, usable_environment

from .answers import EndFields
from .languages import NOT_STARTED

OUTPUT_LIMIT = 4 * 1024 * 1024
"""Bytes of each of stdout and stderr that an answer holds; the rest is dropped, and ``truncated`` is set."""
MAX_TIMEOUT_S = 86_400
TIMED_OUT = 124
KILLED = 137
"""A shell's exit code for SIGKILL, which is how a sandbox's end ends its programs."""
DEATH_NOTED_S = 5.0
"""Longest time between the last word of a sandbox's agent and the record of the sandbox's end."""
T = TypeVar("T")


class Runnable(Body):
    """Fields of every request that runs something."""

    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = None
    workdir: str | None = None
    working_dir: str | None = None
    env: dict[str, str] | None = None

    @field_validator("workdir", "working_dir")
    @classmethod
    def folder_without_nul(cls, text: str | None) -> str | None:
        """The kernel's strings end at NUL."""
        return without_nul(text)

    @field_validator("env")
    @classmethod
    def usable(cls, env: dict[str, str] | None) -> dict[str, str] | None:
        """Names and values that an environment can hold."""
        return usable_environment(env)

    @property
    def folder(self) -> str | None:
        """The requested working folder, under either of its names."""
        return self.workdir or self.working_dir


def without_nul(text: str | None) -> str | None:
    """``text``, if it can be an argument of a program; for validators.

    Raises:
        ValueError: it has a NUL.
    """
    if text is not None and "\x00" in text:
        raise ValueError("must not contain NUL")
    return text


async def in_folder(target: Target, requested: str | None, attempt: Callable[[str], Awaitable[T]]) -> T:
    """``attempt(folder)`` in the first of ``target.folders(requested)`` that exists.

    Raises:
        InvalidPath: none exists. GuestError: of ``attempt``, for another reason.
    """
    folders = target.folders(requested)
    for folder in folders:
        try:
            return await attempt(folder)
        except GuestError as error:
            if error.code != "NO_CWD":
                raise
    missing = requested or folders[-1]
    raise InvalidPath(
        f"Field 'workdir': there is no folder {missing[:200]!r} in the sandbox.",
        details={"path": missing},
    )


async def run_to_end(
    context: ServingContext,
    target: Target,
    requested: str | None,
    attempt: Callable[[str], Awaitable[Completed]],
) -> Completed:
    """``attempt`` as ``in_folder``, counted; whatever happens to the program inside is a result.

    If the whole sandbox dies meanwhile (usually out of memory), that is a result too. It is not a 5xx: clients
    repeat those, and the program did run.

    Raises:
        UserError: the agent refuses the request, or the sandbox was stopped, paused or deleted meanwhile.
        SandboxSilent: the agent does not answer, so it is not known whether the program ran.
        SandboxUnavailable: the agent could not be reached.
    """
    started = time.perf_counter()
    with counted(target.sandbox.id) as outcome:
        try:
            result = await in_folder(target, requested, attempt)
        except GuestFault as error:
            result = await _result_of_lost_sandbox(context, target, error)
        except GuestError as error:
            if error.code in ("INVALID", "UNKNOWN_USER"):
                raise UserError(f"This cannot be run: {error.message}.") from error
            result = not_started(error.message)  # for example too many processes: up to the user
        outcome.success = result.exit_code == 0 and not result.timed_out
    label = "timeout" if result.timed_out else "ok" if result.exit_code == 0 else "error"
    metrics.COMMAND_SECONDS.labels(label).observe(time.perf_counter() - started)
    return result


async def _result_of_lost_sandbox(context: ServingContext, target: Target, error: GuestFault) -> Completed:
    """The result of a program whose sandbox died while it ran.

    Raises:
        SandboxNotFound, SandboxStopped, InvalidState: the sandbox was deleted, stopped or paused.
        SandboxSilent, SandboxUnavailable: it is alive (``agent_silent``).
    """
    deadline = time.monotonic() + DEATH_NOTED_S
    while True:
        async with context.database.read() as connection:
            row = await sandboxes.get(connection, target.sandbox.id)
        if row is None:
            raise SandboxNotFound("Sandbox not found") from error
        if row.status == SandboxStatus.ERROR:
            return replace(
                not_started(f"[the sandbox has ended: {row.reason or 'it died'}]"),
                exit_code=KILLED,
                signal=int(signal.SIGKILL),
            )
        if row.status == SandboxStatus.PAUSED or row.secret != target.sandbox.secret:
            # Not the 503 of a paused sandbox: after it, clients would start a second program beside the first.
            raise InvalidState(
                f"Sandbox {row.id} was paused, or started again, while this ran: its output is lost. Check what it "
                "has done before you repeat it. Run in the background what should outlive a pause."
            ) from error
        if row.status != SandboxStatus.RUNNING:
            await context.sandboxes.endpoint(row)  # raises the error for this status
        if time.monotonic() > deadline:
            raise agent_silent(target, error) from error
        await asyncio.sleep(0.02)


def agent_silent(target: Target, error: GuestFault) -> SandboxSilent | SandboxUnavailable:
    """The error of a request that changes something, when its agent does not answer or answers nonsense.

    Clients repeat a 503, so only a request that did not reach the agent gets one.
    """
    if isinstance(error, GuestUnreachable):
        return agent_unavailable(target, error)
    return SandboxSilent(
        f"Sandbox {target.sandbox.id} does not respond ({error.message}), so it is not known whether this was done. "
        "Check before you repeat it. The usual cause is a program inside that takes all processor time or all "
        "processes: end it, or delete the sandbox."
    )


def agent_unavailable(target: Target, error: GuestFault) -> SandboxUnavailable:
    """The error of a request that changes nothing, when its agent does not answer properly; it may be repeated."""
    return SandboxUnavailable(f"The agent of sandbox {target.sandbox.id} broke off: {error.message}")


def refusal(error: GuestError) -> UserError:
    """The error for what the agent refuses. Never a 5xx, because clients repeat those."""
    if error.code == "TOO_MANY":
        return RateLimited(f"{error.message}.", retry_after=5)
    return UserError(f"This cannot be run: {error.message}.")


def not_started(message: str) -> Completed:
    """The result of a command that could not be started."""
    return Completed(
        exit_code=NOT_STARTED,
        signal=None,
        stdout=b"",
        stderr=f"{message}\n".encode("utf-8", "replace"),
        timed_out=False,
        truncated=False,
        seconds=0.0,
        pid=0,
    )


def end_fields(result: Completed, timeout_s: float) -> EndFields:
    """How a command or some code ended, as fields of an answer; stderr names a timeout and dropped output."""
    stderr = result.stderr.decode("utf-8", "replace")
    if result.timed_out:
        stderr += f"\n[timed out after {timeout_s:g} s]\n"
    if result.truncated:
        stderr += f"\n[output was cut: only the first {OUTPUT_LIMIT} bytes of each stream are kept]\n"
    exit_code = TIMED_OUT if result.timed_out else result.exit_code
    return {
        "success": exit_code == 0,
        "stdout": result.stdout.decode("utf-8", "replace"),
        "stderr": stderr,
        "exit_code": exit_code,
        "execution_time": result.seconds,
        "timed_out": result.timed_out,
        "truncated": result.truncated,
    }
