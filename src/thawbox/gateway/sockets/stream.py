"""``/execute/stream``, ``/stream/ipython``, ``/commands/stream``: output as it comes, over a WebSocket.

What clients rely on: docs/reference/compatibility/websockets.md#streams.

The client's first frame names what to run. Then ``stdout`` and ``stderr`` with ``data``, ``result`` with ``exit_code``,
``execution_time`` and what the code showed, or ``error``; at the end ``complete`` with ``success``. A client that
leaves ends what it started. Our own addition: ``stdin`` with ``data`` and ``stdin_eof`` for commands that body for
``"stdin": true``; ``"ack": true`` answers each of these with ``ack`` once the command has been given it;
``"encoding": "latin-1"`` makes a character of every byte, in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter
from starlette.websockets import WebSocket

from thawbox import guest
from thawbox.errors import UserError
from thawbox.gateway.counters import counted
from thawbox.gateway.run import background, execution, languages, rich
from thawbox.gateway.run.code import DEFAULT_TIMEOUT_S, RICH_LIMIT, ExecuteCode
from thawbox.gateway.run.commands import DEFAULT_TIMEOUT_S as COMMAND_TIMEOUT_S
from thawbox.gateway.run.commands import RunCommand
from thawbox.gateway.run.execution import Runnable, in_folder
from thawbox.gateway.run.ipython import ExecuteCell, run_cell
from thawbox.gateway.run.languages import Invocation
from thawbox.gateway.target import Target
from thawbox.guest import Exit, GuestError, Process, Stderr, Stdout, Value
from thawbox.util.timestamps import rfc3339
from thawbox.web.bodies import parse

from .frames import Frame
from .session import FrameSocket, serve

router = APIRouter(tags=["code"])

FIRST_S = 30.0
"""Longest wait for the client's first frame."""
_FAILED: Frame = {"type": "complete", "success": False}


class StreamCommand(RunCommand):
    """A command; with ``stdin`` the client may send it input."""

    stdin: bool = False
    ack: bool = False
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a program's input and output become frames; see the module's docstring."""

    stdin: bool = False
    ack: bool = False
    encoding: str = "utf-8"


_TEXT_ONLY = StreamOptions()


@router.websocket("/execute/stream")
@router.websocket("/stream")
async def stream_code(websocket: WebSocket) -> None:
    """Run code, and send its output while it runs."""
    await serve(websocket, _code, failed=_FAILED)


@router.websocket("/stream/ipython")
async def stream_cell(websocket: WebSocket) -> None:
    """Run a cell in the sandbox's IPython kernel, and send its output while it runs."""
    await serve(websocket, _cell, failed=_FAILED)


@router.websocket("/commands/stream")
async def stream_command(websocket: WebSocket) -> None:
    """Run a command, and send its output while it runs."""
    await serve(websocket, _command, failed=_FAILED)


async def _code(socket: FrameSocket) -> Frame:
    body = parse(ExecuteCode, await _first(socket, "execute"))
    language = languages.named(body.language)
    target = socket.target
    invocation = await background.choose(target, language, body.code)

    def extra_fields(end: Exit, pid: int, silent: bool, value: bytes) -> dict[str, Any]:
        missing = languages.lacks(language, pid, end.code, b"" if silent else b"output")
        return {
            **_nonempty(rich.read(value)),
            **({"message": languages.missing(language)} if missing else {}),
        }

    return await _run(socket, target, body, invocation, body.timeout or DEFAULT_TIMEOUT_S, extra_fields)


async def _cell(socket: FrameSocket) -> Frame:
    body = parse(ExecuteCell, await _first(socket, "execute"))
    socket.discard_input()
    sent = {"stdout": 0, "stderr": 0}

    async def on_output(stream: str, piece: bytes) -> None:
        sent[stream] += len(piece)
        await socket.send_text(stream, piece, timestamp=rfc3339(time.time()))

    result, outputs = await run_cell(socket.context, socket.target, body, on_output)
    end = execution.end_fields(result, body.timeout or DEFAULT_TIMEOUT_S)
    for stream, text in (("stdout", end["stdout"]), ("stderr", end["stderr"])):
        if rest := text.encode()[sent[stream] :]:  # why it did not run to its end
            await on_output(stream, rest)
    await socket.send(_result(end["exit_code"], end["execution_time"], _nonempty(outputs)))
    return {"type": "complete", "success": end["success"]}


async def _command(socket: FrameSocket) -> Frame:
    body = parse(StreamCommand, await _first(socket, "run", "execute", "command"))
    invocation = Invocation(tuple(body.argv))
    timeout = body.timeout or COMMAND_TIMEOUT_S
    options = StreamOptions(body.stdin, body.ack, body.encoding)
    return await _run(socket, socket.target, body, invocation, timeout, lambda *_: {}, options)


async def _first(socket: FrameSocket, *kinds: str) -> Frame:
    try:
        async with asyncio.timeout(FIRST_S):
            frame = await socket.receive()
    except TimeoutError:
        raise UserError(f"No frame that names what to run came within {FIRST_S:g} s.") from None
    if frame.get("type", kinds[0]) not in kinds:
        raise UserError(f"The first frame must be of type {kinds[0]}.")
    return frame


async def _run(
    socket: FrameSocket,
    target: Target,
    body: Runnable,
    invocation: Invocation,
    timeout_s: float,
    extra_fields: Callable[[Exit, int, bool, bytes], dict[str, Any]],
    options: StreamOptions = _TEXT_ONLY,
) -> Frame:
    value = bytearray()
    with counted(target.sandbox.id) as outcome:
        async with _opened(target, body, invocation, timeout_s, options.stdin) as process:
            feeding = asyncio.create_task(_feed(socket, process, invocation.stdin, options))
            silent = True
            try:
                async for event in process:
                    match event:
                        case Stdout(data):
                            await _send_output(socket, "stdout", data, options)
                        case Stderr(data):
                            silent = False
                            await _send_output(socket, "stderr", data, options)
                        case Value(data):
                            value += data[: RICH_LIMIT - len(value)]
                        case Exit() as end:
                            break
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            extra = extra_fields(end, process.pid, silent, bytes(value))
        if end.timed_out:
            await _send_note(socket, f"\n[timed out after {timeout_s:g} s]\n")
        if "message" in extra:
            await _send_note(socket, extra.pop("message") + "\n")
        outcome.success = end.code == 0 and not end.timed_out
    await socket.send(_result(execution.TIMED_OUT if end.timed_out else end.code, end.seconds, extra))
    return {"type": "complete", "success": outcome.success}


def _result(exit_code: int, seconds: float, extra: dict[str, Any]) -> Frame:
    return {
        "type": "result",
        "exit_code": exit_code,
        "execution_time": seconds,
        **extra,
        "timestamp": rfc3339(time.time()),
    }


def _nonempty(results: rich.RichResults) -> dict[str, Any]:
    return {key: content for key, content in results.fields().items() if content}


async def _send_output(socket: FrameSocket, stream: str, data: bytes, options: StreamOptions) -> None:
    await socket.send_text(stream, data, options.encoding, timestamp=rfc3339(time.time()))


async def _send_note(socket: FrameSocket, text: str) -> None:
    await socket.send_text("stderr", text.encode(), timestamp=rfc3339(time.time()))


async def _feed(socket: FrameSocket, process: Process, stdin: bytes | None, options: StreamOptions) -> None:
    """Pass the client's input to the program, or discard it. Runs beside the output, so it goes on receiving."""
    if stdin is not None:
        await process.send_stdin(stdin)
        await process.close_stdin()
    if not options.stdin:
        socket.discard_input()
        return
    while True:
        match await socket.receive():
            case {"type": "stdin", "data": str(data)}:
                await process.send_stdin(data.encode(options.encoding, "replace"))
                if options.ack:
                    await socket.send_between({"type": "ack"})
            case {"type": "stdin_eof"}:
                await process.close_stdin()
                socket.discard_input()
                return


@contextlib.asynccontextmanager
async def _opened(
    target: Target, body: Runnable, invocation: Invocation, timeout_s: float, with_stdin: bool
) -> AsyncIterator[Process]:
    """The program, in the first of the target's folders that exists."""
    async with contextlib.AsyncExitStack() as stack:

        async def attempt(cwd: str) -> Process:
            return await stack.enter_async_context(
                guest.spawn(
                    target.endpoint,
                    argv=invocation.argv,
                    env=body.env,
                    cwd=cwd,
                    user=target.defaults.user,
                    timeout=timeout_s,
                    stdin=invocation.stdin is not None or with_stdin,
                    result_limit=RICH_LIMIT if invocation.rich else None,
                    scratch=invocation.scratch,
                )
            )

        try:
            process = await in_folder(target, body.folder, attempt)
        except GuestError as error:
            raise execution.refusal(error) from error
        yield process
