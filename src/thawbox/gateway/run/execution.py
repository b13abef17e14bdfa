"""What all requests that run something share: their fields, where they run, and how an end reads."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

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
from thawbox.gateway.context import GatewayContext
from thawbox.gateway.sandbox.counters import counted
from thawbox.gateway.target import Target
from thawbox.guest import Completed, GuestError
from thawbox.store import sandboxes
from thawbox.web.bodies import Body, usable_environment

from .languages import NOT_STARTED

OUTPUT_LIMIT = 4 * 1024 * 1024
"""Bytes of each of stdout and stderr that an answer holds; what is more is dropped, and ``truncated`` says so."""
MAX_TIMEOUT_S = 86_400
TIMED_OUT = 124
KILLED = 137
"""Exit code, as a shell's, of what SIGKILL ended: every program of a sandbox that ends under them."""
DEATH_NOTED_S = 5.0
"""How long after its agent broke off a sandbox's end may take to be in its record."""
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
        """Only what can be an environment."""
        return usable_environment(env)

    @property
    def folder(self) -> str | None:
        """The working folder that was asked for."""
        return self.workdir or self.working_dir


def without_nul(text: str | None) -> str | None:
    """``text`` if programs can be given it.

    Raises:
        ValueError: it holds NUL.
    """
    if text is not None and "\x00" in text:
        raise ValueError("must not hold NUL")
    return text


async def in_folder(target: Target, wanted: str | None, attempt: Callable[[str], Awaitable[T]]) -> T:
    """``attempt`` in the folder that is wanted, else the template's, else the workspace, else ``/``.

    Raises:
        InvalidPath: there is no such folder. GuestError of ``attempt`` passes through.
    """
    folders = target.folders(wanted)
    for folder in folders:
        try:
            return await attempt(folder)
        except GuestError as error:
            if error.code != "NO_CWD":
                raise
    missing = wanted or folders[-1]
    raise InvalidPath(
        f"Field 'workdir': there is no folder {missing[:200]!r} in the sandbox.",
        details={"path": missing},
    )


async def completed(
    parts: GatewayContext, target: Target, wanted: str | None, attempt: Callable[[str], Awaitable[Completed]]
) -> Completed:
    """``attempt`` as ``in_folder``, counted; whatever happens to the program inside is a result.

    The end of the whole sandbox under it, for want of memory most often, is one too: clients repeat what is
    answered with a 5xx (contract A), and this did run.

    Raises:
        UserError: the request itself cannot be carried out, or the sandbox was stopped, paused or deleted
            meanwhile.
        SandboxSilent: its agent says nothing, so nobody knows whether it ran.
        SandboxUnavailable: its agent could not be asked.
    """
    started = time.perf_counter()
    with counted(target.sandbox.id) as outcome:
        try:
            done = await in_folder(target, wanted, attempt)
        except GuestFault as error:
            done = await _end_with_sandbox(parts, target, error)
        except GuestError as error:
            if error.code in ("INVALID", "UNKNOWN_USER"):
                raise UserError(f"This cannot be run: {error.message}.") from error
            done = not_started(error.message)  # out of processes, for example: the user's doing
        outcome.success = done.exit_code == 0 and not done.timed_out
    word = "timeout" if done.timed_out else "ok" if done.exit_code == 0 else "error"
    metrics.COMMAND_SECONDS.labels(word).observe(time.perf_counter() - started)
    return done


async def _end_with_sandbox(parts: GatewayContext, target: Target, error: GuestFault) -> Completed:
    """The result of a program whose sandbox ended under it.

    Raises:
        SandboxNotFound, SandboxStopped, InvalidState: somebody deleted, stopped or paused the sandbox.
        SandboxSilent, SandboxUnavailable: it has not ended (``unanswered``).
    """
    deadline = time.monotonic() + DEATH_NOTED_S
    while True:
        async with parts.database.read() as connection:
            row = await sandboxes.get(connection, target.sandbox.id)
        if row is None:
            raise SandboxNotFound("Sandbox not found") from error
        if row.status == "error":
            return replace(
                not_started(f"[the sandbox has ended: {row.reason or 'it died'}]"),
                exit_code=KILLED,
                signal=int(signal.SIGKILL),
            )
        if row.status == "paused" or row.secret != target.sandbox.secret:
            # Not the 503 of what is paused: after it, clients would start a second one beside the first.
            raise InvalidState(
                f"Sandbox {row.id} was paused, or started again, while this ran: its output is lost. Look at what "
                "it has done before you repeat it; what should outlive a pause runs in the background."
            ) from error
        if row.status != "running":
            await parts.sandboxes.endpoint(row)  # says why it cannot be reached
        if time.monotonic() > deadline:
            raise unanswered(target, error) from error
        await asyncio.sleep(0.02)


def unanswered(target: Target, error: GuestFault) -> SandboxSilent | SandboxUnavailable:
    """The answer to a request that does something, if the agent is silent or talks nonsense.

    Clients repeat a 503. That is right only for what was not handed over.
    """
    if isinstance(error, GuestUnreachable):
        return broke_off(target, error)
    return SandboxSilent(
        f"Sandbox {target.sandbox.id} does not respond ({error.message}), so it is not known whether this was done. "
        "Look before you repeat it. Mostly a program inside takes all processor time or all processes: end it, or "
        "delete the sandbox."
    )


def broke_off(target: Target, error: GuestFault) -> SandboxUnavailable:
    """The answer to a request that changes nothing, if the agent is silent or talks nonsense; it may be repeated."""
    return SandboxUnavailable(f"The agent of sandbox {target.sandbox.id} broke off: {error.message}")


def refusal(error: GuestError) -> UserError:
    """The answer for what the agent refuses; never a 5xx, because clients would try again."""
    if error.code == "TOO_MANY":
        return RateLimited(f"{error.message}.", retry_after=5)
    return UserError(f"This cannot be run: {error.message}.")


def not_started(message: str) -> Completed:
    """A command that did not come to run."""
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


def end_of(done: Completed, timeout_s: float) -> dict[str, Any]:
    """The fields that say how a command or some code ended."""
    stderr = done.stderr.decode("utf-8", "replace")
    if done.timed_out:
        stderr += f"\n[timed out after {timeout_s:g} s]\n"
    if done.truncated:
        stderr += f"\n[output was cut: only the first {OUTPUT_LIMIT} bytes of each stream are kept]\n"
    exit_code = TIMED_OUT if done.timed_out else done.exit_code
    return {
        "success": exit_code == 0,
        "stdout": done.stdout.decode("utf-8", "replace"),
        "stderr": stderr,
        "exit_code": exit_code,
        "execution_time": done.seconds,
        "timed_out": done.timed_out,
        "truncated": done.truncated,
    }
