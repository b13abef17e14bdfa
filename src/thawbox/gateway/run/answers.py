"""What the routes that run something answer. Times are seconds, moments RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from thawbox.gateway.answers import Stamped, Traced

JobStatus = Literal["running", "killed", "completed", "failed"]


class EndFields(TypedDict):
    """How a program ended."""

    success: bool
    stdout: str
    stderr: str
    exit_code: int
    execution_time: float
    timed_out: bool
    truncated: bool


class CommandAnswer(EndFields, Stamped):
    """A command that has ended."""

    command: str
    pid: int


class RichOutput(TypedDict):
    """One output of some code: ``type`` is its MIME type, ``format`` its flat key."""

    type: str
    format: str
    data: Any


class RichFields(TypedDict):
    """What some code displayed: the last output of each kind, and all of them in order."""

    result: str | None
    png: str | None
    svg: str | None
    html: str | None
    markdown: str | None
    json: Any
    dataframe: Any
    rich_outputs: list[RichOutput]


class CodeAnswer(EndFields, RichFields, Stamped):
    """Some code that has ended."""

    language: str


class JobStarted(Stamped):
    """Code that was started in the background; ``pid`` is 0 if it could not be started."""

    process_id: str
    execution_id: str
    status: Literal["running", "failed"]
    name: str | None
    pid: int
    start_time: str
    message: str


class CommandStarted(JobStarted):
    """A command that was started in the background."""

    command: str


class CallbackPromised(Stamped):
    """Code that was started, with a call to a URL when it has ended."""

    execution_id: str
    process_id: str
    status: Literal["queued"]
    callback_url: str
    message: str


class JobItem(TypedDict):
    """A background execution."""

    process_id: str
    execution_id: str
    name: str | None
    status: JobStatus
    language: str | None
    pid: int
    start_time: str
    started_at: str
    end_time: str | None
    completed_at: str | None
    exit_code: int | None
    duration: float
    execution_time: float
    stdout: str
    stderr: str
    command: str | None
    timed_out: bool
    truncated: bool


class JobAnswer(JobItem, Traced):
    """A background execution alone, with its output from the beginning."""


class JobList(Stamped):
    """The background executions of a sandbox."""

    processes: list[JobItem]
    count: int


class ProcessItem(TypedDict):
    """A process of the sandbox; those of a background execution have its ids."""

    pid: int
    ppid: int
    name: str
    status: Literal["running", "sleeping", "stopped", "zombie", "unknown"]
    cpu_percent: float
    memory_mb: float
    command: str
    user: str
    process_id: NotRequired[str]
    execution_id: NotRequired[str]


class ProcessList(Stamped):
    """The processes of a sandbox."""

    processes: list[ProcessItem]
    count: int


class KillAnswer(Stamped):
    """``exited``: it had ended already."""

    process_id: str
    status: Literal["killed", "exited"]
    message: str


class KernelSession(TypedDict):
    """A running IPython kernel."""

    kernel_id: str
    execution_state: Literal["starting", "idle", "busy"]
    connections: int
    last_activity: str


class KernelSessions(Stamped):
    """The sandbox's kernel, if one runs."""

    sessions: list[KernelSession]
    count: int
