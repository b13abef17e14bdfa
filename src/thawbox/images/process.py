"""Programs of the host that fetch and unpack images: started, read, and ended on every path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

_TAIL_LINES = 40
_LINE_BYTES = 4096
_STDOUT_BYTES = 16 * 1024 * 1024

_KEPT_ENVIRONMENT = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "ftp_proxy",
    "all_proxy",
    "ssl_cert_file",
    "ssl_cert_dir",
)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. ``tail`` holds its last lines on standard error."""

    status: int
    stdout: bytes
    tail: tuple[str, ...]


class TimedOut(Exception):
    """The program was still running when its time was up. It is gone now."""


def plain_environment(**extra: str) -> dict[str, str]:
    """An environment with nothing of the server's but its proxy and CA settings, and ``extra``.

    Package tools read dozens of variables; what the operator set for the server must not shape an image.
    """
    kept = {name: value for name, value in os.environ.items() if name.lower() in _KEPT_ENVIRONMENT}
    path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {**kept, "PATH": path, "LC_ALL": "C.UTF-8", **extra}


async def run(
    args: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a program to its end; ``line`` gets each line of its standard error as it comes.

    The program is killed, with all that it started in its session, when the time is up, when the caller is
    cancelled, and when this process dies.

    Raises:
        TimedOut: after ``timeout_s`` seconds.
        FileNotFoundError: the program is not installed.
    """
    # setpriv would report a missing program only as an exit status.
    if _missing(args[0], env):
        raise FileNotFoundError(args[0])
    async with _started(args, env, cwd, stdin) as process:
        try:
            async with asyncio.timeout(timeout_s):
                stdout, tail, status = await asyncio.gather(
                    _read_all(process.stdout), _read_lines(process.stderr, line), process.wait()
                )
        except TimeoutError:
            raise TimedOut from None
    return Finished(status, stdout, tail)


@asynccontextmanager
async def _started(
    args: Sequence[str], env: Mapping[str, str] | None, cwd: str | None, stdin: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        "setpriv",
        "--pdeathsig=KILL",
        "--",
        *args,
        env=plain_environment() if env is None else env,
        cwd=cwd,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        # The whole session: helpers of the program may outlive it and hold its pipes. Not after an orderly end,
        # when the number may belong to somebody else already.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        raise


def _missing(program: str, env: Mapping[str, str] | None) -> bool:
    if "/" in program:
        return not os.access(program, os.X_OK)
    folders = (env or os.environ).get("PATH", os.defpath).split(":")
    return not any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders)


async def _read_all(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: _STDOUT_BYTES - len(kept)]
    return bytes(kept)


async def _read_lines(
    stream: asyncio.StreamReader | None, line: Callable[[str], None] | None
) -> tuple[str, ...]:
    assert stream is not None
    tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def keep(raw: bytes) -> None:
        text = raw[:_LINE_BYTES].decode(errors="replace").rstrip()
        if text:
            tail.append(text)
            if line:
                line(text)

    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[-_LINE_BYTES:]
        for raw in whole:
            keep(raw)
    keep(rest)
    return tuple(tail)
