"""``/execute/stream``, ``/stream/ipython``, ``/commands/stream``: output as it comes, over a WebSocket (contract E.7).

The client's first frame says what to run. Then ``stdout`` and ``stderr`` with ``data``, ``result`` with ``exit_code``,
``execution_time`` and what the code showed, or ``error``; at the end ``complete`` with ``success``. A client that
leaves ends what it started. Our own addition: ``stdin`` with ``data`` and ``stdin_eof`` for commands that asked for
``"stdin": true``; ``"ack": true`` answers each of these with ``ack`` once the command has been given it;
``"encoding": "latin-1"`` makes a character of every byte, both ways.
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
from thawbox.gateway.run import background, execution, languages, rich
from thawbox.gateway.run.code import DEFAULT_TIMEOUT_S, RICH_LIMIT, ExecuteCode
from thawbox.gateway.run.commands import DEFAULT_TIMEOUT_S as COMMAND_TIMEOUT_S
from thawbox.gateway.run.commands import RunCommand
from thawbox.gateway.run.execution import Runnable, in_folder
from thawbox.gateway.run.ipython import ExecuteCell, run_cell
from thawbox.gateway.run.languages import Invocation
from thawbox.gateway.sandbox.counters import counted
from thawbox.gateway.target import Target
from thawbox.guest import Exit, GuestError, Process, Stderr, Stdout, Value
from thawbox.util.timestamps import rfc3339
from thawbox.web.bodies import parse

from .frames import Frame
from .session import Socket, serve

router = APIRouter(tags=["code"])

FIRST_S = 30.0
"""How long a client may take to say what to run."""
_FAILED: Frame = {"type": "complete", "success": False}


class StreamCommand(RunCommand):
    """A command; with ``stdin`` it can be typed to."""

    stdin: bool = False
    ack: bool = False
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


@dataclass(frozen=True, slots=True)
class Talk:
    """How a program's input and output are told."""

    typed: bool = False
    ack: bool = False
    encoding: str = "utf-8"


_AS_TEXT = Talk()


@router.websocket("/execute/stream")
@router.websocket("/stream")
async def stream_code(websocket: WebSocket) -> None:
    """Run code, and tell what it says while it runs."""
    await serve(websocket, _code, failed=_FAILED)


@router.websocket("/stream/ipython")
async def stream_cell(websocket: WebSocket) -> None:
    """Run a cell in the sandbox's IPython kernel, and tell what it says while it runs."""
    await serve(websocket, _cell, failed=_FAILED)


@router.websocket("/commands/stream")
async def stream_command(websocket: WebSocket) -> None:
    """Run a command, and tell what it says while it runs."""
    await serve(websocket, _command, failed=_FAILED)


async def _code(socket: Socket) -> Frame:
    asked = parse(ExecuteCode, await _first(socket, "execute"))
    language = languages.named(asked.language)
    target = socket.target
    way = await background.choose(target, language, asked.code)

    def ending(end: Exit, pid: int, silent: bool, value: bytes) -> dict[str, Any]:
        missing = languages.lacks(language, pid, end.code, b"" if silent else b"said")
        return {
            **_shown(rich.read(value)),
            **({"message": languages.missing(language)} if missing else {}),
        }

    return await _run(socket, target, asked, way, asked.timeout or DEFAULT_TIMEOUT_S, ending)


async def _cell(socket: Socket) -> Frame:
    asked = parse(ExecuteCell, await _first(socket, "execute"))
    socket.receive_no_more()
    said = {"stdout": 0, "stderr": 0}

    async def say(stream: str, piece: bytes) -> None:
        said[stream] += len(piece)
        await socket.send_text(stream, piece, timestamp=rfc3339(time.time()))

    done, shown = await run_cell(socket.parts, socket.target, asked, say)
    end = execution.end_of(done, asked.timeout or DEFAULT_TIMEOUT_S)
    for stream, text in (("stdout", end["stdout"]), ("stderr", end["stderr"])):
        if rest := text.encode()[said[stream] :]:  # why it did not run to its end
            await say(stream, rest)
    await socket.send(_result(end["exit_code"], end["execution_time"], _shown(shown)))
    return {"type": "complete", "success": end["success"]}


async def _command(socket: Socket) -> Frame:
    asked = parse(StreamCommand, await _first(socket, "run", "execute", "command"))
    way = Invocation(tuple(asked.argv))
    timeout = asked.timeout or COMMAND_TIMEOUT_S
    talk = Talk(asked.stdin, asked.ack, asked.encoding)
    return await _run(socket, socket.target, asked, way, timeout, lambda *_: {}, talk)


async def _first(socket: Socket, *kinds: str) -> Frame:
    try:
        async with asyncio.timeout(FIRST_S):
            frame = await socket.receive()
    except TimeoutError:
        raise UserError(f"No frame that says what to run came within {FIRST_S:g} s.") from None
    if frame.get("type", kinds[0]) not in kinds:
        raise UserError(f"The first frame must be of type {kinds[0]}.")
    return frame


async def _run(
    socket: Socket,
    target: Target,
    asked: Runnable,
    way: Invocation,
    timeout_s: float,
    ending: Callable[[Exit, int, bool, bytes], dict[str, Any]],
    talk: Talk = _AS_TEXT,
) -> Frame:
    value = bytearray()
    with counted(target.sandbox.id) as outcome:
        async with _opened(target, asked, way, timeout_s, talk.typed) as process:
            feeding = asyncio.create_task(_feed(socket, process, way.stdin, talk))
            silent = True
            try:
                async for event in process:
                    match event:
                        case Stdout(data):
                            await _say(socket, "stdout", data, talk)
                        case Stderr(data):
                            silent = False
                            await _say(socket, "stderr", data, talk)
                        case Value(data):
                            value += data[: RICH_LIMIT - len(value)]
                        case Exit() as end:
                            break
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            extra = ending(end, process.pid, silent, bytes(value))
        if end.timed_out:
            await _note(socket, f"\n[timed out after {timeout_s:g} s]\n")
        if "message" in extra:
            await _note(socket, extra.pop("message") + "\n")
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


def _shown(results: rich.Rich) -> dict[str, Any]:
    return {key: content for key, content in results.fields().items() if content}


async def _say(socket: Socket, stream: str, data: bytes, talk: Talk) -> None:
    await socket.send_text(stream, data, talk.encoding, timestamp=rfc3339(time.time()))


async def _note(socket: Socket, text: str) -> None:
    await socket.send_text("stderr", text.encode(), timestamp=rfc3339(time.time()))


async def _feed(socket: Socket, process: Process, stdin: bytes | None, talk: Talk) -> None:
    """Give the program its input; and go on receiving, so that the client's leaving is noticed."""
    if stdin is not None:
        await process.send_stdin(stdin)
        await process.close_stdin()
    if not talk.typed:
        socket.receive_no_more()
        return
    while True:
        match await socket.receive():
            case {"type": "stdin", "data": str(data)}:
                await process.send_stdin(data.encode(talk.encoding, "replace"))
                if talk.ack:
                    await socket.send_between({"type": "ack"})
            case {"type": "stdin_eof"}:
                await process.close_stdin()
                socket.receive_no_more()
                return


@contextlib.asynccontextmanager
async def _opened(
    target: Target, asked: Runnable, way: Invocation, timeout_s: float, typed: bool
) -> AsyncIterator[Process]:
    """The program, in the first of the folders in question that exists."""
    async with contextlib.AsyncExitStack() as stack:

        async def attempt(cwd: str) -> Process:
            return await stack.enter_async_context(
                guest.spawn(
                    target.endpoint,
                    argv=way.argv,
                    env=asked.env,
                    cwd=cwd,
                    user=target.defaults.user,
                    timeout=timeout_s,
                    stdin=way.stdin is not None or typed,
                    result_limit=RICH_LIMIT if way.rich else None,
                    scratch=way.scratch,
                )
            )

        try:
            process = await in_folder(target, asked.folder, attempt)
        except GuestError as error:
            raise execution.refusal(error) from error
        yield process
