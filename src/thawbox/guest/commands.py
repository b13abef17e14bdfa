"""Commands inside a sandbox."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from thawbox.agent import protocol
from thawbox.errors import GuestFault

from .channel import QUICK_S, Channel, Endpoint, GuestError, call, connect, deadline
from .fields import Object, field

SLACK_S = 15.0
"""How much later than its timeout a command's end may be reported."""


OUTPUT_LIMIT = 16 * 1024 * 1024
"""Default bound of what ``run`` keeps of each stream, bytes."""


@dataclass(frozen=True)
class Completed:
    """A command that has ended. ``seconds`` is measured inside; ``pid`` is 0 if it could not be started.

    ``exit_code`` and ``signal`` are as in ``Exit``; ``truncated``: a stream was longer than its limit.
    """

    exit_code: int
    signal: int | None
    stdout: bytes
    stderr: bytes
    timed_out: bool
    truncated: bool
    seconds: float
    pid: int
    value: bytes = b""
    """What it wrote to its result descriptor."""


@dataclass(frozen=True)
class Stdout:
    """A piece of standard output."""

    data: bytes


@dataclass(frozen=True)
class Stderr:
    """A piece of standard error."""

    data: bytes


@dataclass(frozen=True)
class Value:
    """A piece of what the command wrote to its result descriptor."""

    data: bytes


@dataclass(frozen=True)
class Exit:
    """The command's end. ``code``: 128 + n after signal n, 124 after its timeout, 126 or 127 if it could not start."""

    code: int
    signal: int | None
    timed_out: bool
    truncated: bool
    seconds: float


Event = Stdout | Stderr | Value | Exit


class Process:
    """A command that runs inside. Iterate for its events; the last one is ``Exit``."""

    def __init__(self, channel: Channel, pid: int) -> None:
        self._channel = channel
        self._ended = False
        self.pid = pid
        """0 if the program could not be started; ``Exit`` then says 126 or 127."""

    async def send_stdin(self, data: bytes) -> None:
        """Send it input; waits while the command does not read it."""
        for at in range(0, len(data), protocol.CHUNK):
            await self._channel.send(protocol.STDIN, data[at : at + protocol.CHUNK])

    async def close_stdin(self) -> None:
        """End its input."""
        await self._channel.send(protocol.STDIN_EOF)

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        await self._channel.send(protocol.SIGNAL, bytes([number]))

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        kind, payload = await self._channel.receive()
        if kind == protocol.STDOUT:
            return Stdout(payload)
        if kind == protocol.STDERR:
            return Stderr(payload)
        if kind == protocol.VALUE:
            return Value(payload)
        if kind != protocol.EXIT:
            raise GuestFault(f"the agent sent a frame of kind {kind} where output was expected")
        self._ended = True
        return _exit(self._channel.object(payload))


def _exit(value: Object) -> Exit:
    return Exit(
        code=field(value, "code", int),
        signal=None if value.get("signal") is None else field(value, "signal", int),
        timed_out=field(value, "timed_out", bool),
        truncated=field(value, "truncated", bool),
        seconds=field(value, "seconds", float),
    )


async def run(
    endpoint: Endpoint,
    *,
    argv: Sequence[str] | None = None,
    shell: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    timeout: float | None = None,
    stdin: bytes | None = None,
    output_limit: int = OUTPUT_LIMIT,
    result_limit: int | None = None,
    scratch: bool = False,
    imports: Sequence[str] = (),
) -> Completed:
    """Run a command to its end. ``timeout`` in seconds, ``output_limit`` in bytes per stream.

    With ``result_limit`` (bytes) it gets one more descriptor, whose number is in ``THAWBOX_RESULT_FD``. With
    ``scratch`` it gets a folder that is removed after it, whose path is in ``THAWBOX_SCRATCH``. ``imports``: Python
    modules that the code seems to need; a warm interpreter that has imported them may then run it.

    Raises:
        GuestError: NO_CWD, UNKNOWN_USER, INVALID.
        GuestFault: the agent does not answer, or its answer is not valid.
    """
    fields = _command(argv, shell, env, cwd, user, timeout, output_limit)
    fields.update(stdin=stdin is not None, result_limit=result_limit, scratch=scratch, imports=list(imports))
    output = {Stdout: bytearray(), Stderr: bytearray(), Value: bytearray()}
    limits = {Stdout: output_limit, Stderr: output_limit, Value: result_limit or 0}
    cut = False
    async with (
        deadline(None if timeout is None else timeout + SLACK_S),
        _process(endpoint, fields) as process,
    ):
        feeding = asyncio.create_task(_feed(process, stdin)) if stdin is not None else None
        try:
            async for event in process:
                if isinstance(event, Exit):
                    return Completed(
                        exit_code=event.code,
                        signal=event.signal,
                        stdout=bytes(output[Stdout]),
                        stderr=bytes(output[Stderr]),
                        timed_out=event.timed_out,
                        truncated=event.truncated or cut,
                        seconds=event.seconds,
                        pid=process.pid,
                        value=bytes(output[Value]),
                    )
                kept = output[type(event)]
                room = limits[type(event)] - len(kept)
                cut = cut or len(event.data) > room  # a hostile agent, or a limit below a frame's size
                kept += event.data[:room]
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
    raise GuestFault("the agent closed the connection before the command's end")


async def _feed(process: Process, data: bytes) -> None:
    await process.send_stdin(data)
    await process.close_stdin()


@asynccontextmanager
async def spawn(
    endpoint: Endpoint,
    *,
    argv: Sequence[str] | None = None,
    shell: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    timeout: float | None = None,
    stdin: bool = False,
    output_limit: int | None = None,
    result_limit: int | None = None,
    scratch: bool = False,
) -> AsyncIterator[Process]:
    """A running command; leaving the block ends it and everything in its session.

    Raises:
        GuestError, GuestFault: see ``run``.
    """
    fields = _command(argv, shell, env, cwd, user, timeout, output_limit)
    fields.update(stdin=stdin, result_limit=result_limit, scratch=scratch)
    async with _process(endpoint, fields) as process:
        yield process


async def start(
    endpoint: Endpoint,
    *,
    argv: Sequence[str] | None = None,
    shell: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    log: str | None = None,
) -> int:
    """Start a command that goes on by itself; returns its pid. Its output goes to the file ``log`` inside, or nowhere.

    Raises:
        GuestError: NOT_STARTED with the reason; NO_CWD, UNKNOWN_USER, INVALID.
    """
    fields = _command(argv, shell, env, cwd, user, None, None)
    fields.update(detach=True, log=log)
    async with deadline(QUICK_S), _process(endpoint, fields) as process:
        if process.pid == 0:
            output = b"".join([event.data async for event in process if not isinstance(event, Exit)])
            raise GuestError("NOT_STARTED", output.decode("utf-8", "replace").strip())
        return process.pid


async def command_status(endpoint: Endpoint, pid: int, *, timeout: float = QUICK_S) -> int | None:
    """The exit code of a command that ``start`` started; None while it runs.

    Raises:
        GuestError: NO_PROCESS.
    """
    answer = await call(endpoint, "status", {"pid": pid}, timeout)
    return None if field(answer, "running", bool) else field(answer, "code", int)


@asynccontextmanager
async def _process(endpoint: Endpoint, fields: Object) -> AsyncIterator[Process]:
    async with connect(endpoint, "spawn", fields) as channel:
        async with deadline(QUICK_S):
            started = await channel.expect_object(protocol.STARTED)
        yield Process(channel, field(started, "pid", int))


def _command(
    argv: Sequence[str] | None,
    shell: str | None,
    env: Mapping[str, str] | None,
    cwd: str | None,
    user: str | None,
    timeout: float | None,
    output_limit: int | None,
) -> Object:
    return {
        "argv": None if argv is None else list(argv),
        "shell": shell,
        "env": dict(env or {}),
        "cwd": cwd,
        "user": user,
        "timeout": timeout,
        "output_limit": output_limit,
    }
